"""Parts of a study file, checked against the rules of the fields of game and training."""

import dataclasses
from typing import Any, NoReturn

from jaxdodge.ablation.places import Document, Way
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GAME_FIELDS, GameConfig
from jaxdodge.fields import ConfigError, check_names

RULES = {
    field.name: field.metadata["rule"]
    for config in (GameConfig, TrainConfig)
    for field in dataclasses.fields(config)
}
DERIVED = {
    field.name
    for config in (GameConfig, TrainConfig)
    for field in dataclasses.fields(config)
    if field.default is None
}
FIELDS = GAME_FIELDS | dict.fromkeys(RULES, "")
NOT_A_FACTOR = {
    "seed": "not here; `seeds` says how many there are, base.seed the first",
    "seeds": "not here; it is a key of the study",
    "total_timesteps": "not here; `budget` sets it",
}


class Checked:
    """A document whose parts are looked up and checked.

    Args:
        document: to look into.
        sections: ways to the mappings in which keys are looked for, the first that has it decides.
    """

    def __init__(self, document: Document, sections: list[Way]):
        self.document, self.sections = document, sections

    def at(self, way: Way) -> Any:
        """The value at a place."""
        value: Any = self.document.content
        for step in way:
            value = value[step]
        return value

    def way(self, key: str) -> Way | None:
        """Where a key of the study is, if anywhere."""
        return next(((*section, key) for section in self.sections if key in self.at(section)), None)

    def mapping(self, way: Way, what: str = "names to values") -> dict[Any, Any]:
        """The mapping at a place."""
        value = self.at(way)
        if not isinstance(value, dict) or not value:
            self.refuse(way, f"must be a mapping of {what}, with at least one")
        return value

    def refuse(self, way: Way, message: str) -> NoReturn:
        """Raise ConfigError, see `Document`."""
        self.document.refuse(way, message)

    def check(self, way: Way, rule: Any, value: Any) -> Any:
        """The value as a rule of a field has it."""
        name = str(way[-1])
        try:
            return rule.check(name, value)
        except ConfigError as error:
            self.refuse(way, str(error).removeprefix(f"{name}: "))

    def known(self, way: Way, accepted: Any, what: str = "a study") -> None:
        """Refuse names that are not accepted at a place."""
        for name in self.at(way):
            self.known_name((*way, name), name, accepted, what)

    def known_name(self, way: Way, name: Any, accepted: Any, what: str, hint: str = "") -> None:
        """Refuse a name; expected names, or a mapping of them as `check_names` takes it."""
        try:
            check_names(
                {name: None}, accepted if isinstance(accepted, dict) else dict.fromkeys(accepted, ""), what
            )
        except ConfigError as error:
            self.refuse(way, str(error).removeprefix(f"{name}: ") + hint)

    def fields(self, way: Way, accepted: dict[str, str]) -> dict[str, Any]:
        """A mapping of fields, each of them checked alone."""
        self.known(way, accepted, "the game or the training" if accepted is not GAME_FIELDS else "the game")
        return {name: self.value((*way, name), name) for name in self.at(way)}

    def value(self, way: Way, name: str) -> Any:
        """The value of a field; None is "derived", where the field has that."""
        value = self.at(way)
        if name in DERIVED and (value is None or (name == "response_frame" and value == "full")):
            return None
        return self.check(way, RULES[name], value)
