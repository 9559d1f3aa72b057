"""Reads a study file and reports each error with its line. This module does not import JAX."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any, NoReturn

from jaxdodge.ablation.study import Cell, Study
from jaxdodge.ablation.yaml_document import KeyPath, YamlDocument
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GAME_FIELDS, GameConfig
from jaxdodge.fields import ConfigError, Number, check_names, read_yaml
from jaxdodge.files import one_line
from jaxdodge.runs.folder import split
from jaxdodge.runs.options import DEFAULTS
from jaxdodge.runs.original import is_original, translate

KEYS = ("question", "base", "factors", "cells", "seeds", "budget", "evaluate", "full")
BUDGETS = {
    "total_timesteps": Number(int, 1),
    "updates": Number(int, 1),
    "minutes": Number(float, 0, above_low=True),
}
# With another budget: more environment steps than fit into it, and few enough for an int32.
UNLIMITED_TIMESTEPS = 2_000_000_000
EPISODES = 128
MOST_COMBINATIONS = 10_000
SEEDS = 3
AS_TRAINED = "as trained"
TRAINING = "the game or the training"
_CONFIG_FIELDS = [field for config in (GameConfig, TrainConfig) for field in dataclasses.fields(config)]
RULES = {field.name: field.metadata["rule"] for field in _CONFIG_FIELDS}
# Fields for which `null` means "derived from the others".
DERIVED = {field.name for field in _CONFIG_FIELDS if field.default is None}
FIELDS = GAME_FIELDS | dict.fromkeys(RULES, "")
FACTOR_FIELDS = FIELDS | {
    "seed": "not allowed here; `seeds` is the number of seeds, base.seed the first",
    "seeds": "not allowed here; it is a key of the study",
    "total_timesteps": "not allowed here; use `budget`",
}
BASE_FIELDS = FACTOR_FIELDS | {"seed": "", "preset": ""}


def read_study(path: Path, full: bool = False) -> Study:
    """Read a study file.

    Args:
        path: of a YAML file, see `docs/studies.md`.
        full: whether the section `full` replaces the other keys; of `base`, field by field.

    Raises:
        ConfigError: one line with the file, the line and what is expected.
    """
    return _Reader(YamlDocument(path), full).study()


class _Reader:
    """Builds a study from a document; each method reads and checks the key in its name."""

    def __init__(self, document: YamlDocument, full: bool):
        self.document = document
        # The first section that has a key decides.
        self.sections: list[KeyPath] = [("full",), ()] if full else [()]
        document.check_keys((), KEYS, "a study")
        if full and "full" not in document.content:
            document.fail((), "full: no such section; the study has only one version")
        if "full" in document.content:
            document.mapping(("full",))
            document.check_keys(("full",), [key for key in KEYS if key != "full"], "a study")

    def study(self) -> Study:
        factors = self.factors()
        budget, value = self.budget()
        base = self.base()
        if budget == "total_timesteps":
            base["total_timesteps"] = value
        else:
            base["total_timesteps"] = UNLIMITED_TIMESTEPS
        if budget == "minutes":
            base["learning_rate_schedule"] = "constant"
            self.check_schedules(factors)
        cells = []
        for key_path, levels in self.combinations(factors):
            fields = dict(base)
            for factor, level in levels.items():
                fields |= factors[factor][level]
            name = ", ".join(f"{factor} {level}" for factor, level in levels.items())
            cells.append((key_path, Cell(name, levels, fields, value if budget == "updates" else None)))
        self.check_duplicates(cells)
        question = self.key_path("question")
        text = self.at(question) if question else None
        if not isinstance(text, str) or not text.strip():
            self.fail(question or ("question",), "must be text: the question that the study answers")
        episodes, conditions = self.evaluation()
        seeds = self.key_path("seeds")
        return Study(
            name=self.document.path.stem,
            question=one_line(text),
            factors={name: list(levels) for name, levels in factors.items()},
            cells=[cell for _, cell in cells],
            seeds=self.document.check(seeds, Number(int, 1, 1000)) if seeds else SEEDS,
            minutes=value if budget == "minutes" else None,
            episodes=episodes,
            conditions=conditions,
        )

    def base(self) -> dict[str, Any]:
        """The fields that all cells share: defaults, preset, and the file's own."""
        fields: dict[str, Any] = {}
        preset: KeyPath | None = None
        for section in reversed(self.sections):
            key_path = (*section, "base")
            if "base" not in self.at(section):
                continue
            if isinstance(self.at(key_path), str):
                preset = key_path
                continue
            self.document.mapping(key_path)
            self.document.check_keys(key_path, BASE_FIELDS, TRAINING)
            if "preset" in self.at(key_path):
                preset = (*key_path, "preset")
            fields |= {name: self.field((*key_path, name)) for name in self.at(key_path) if name != "preset"}
        return {**DEFAULTS, **(self.preset(preset) if preset else {}), **fields}

    def preset(self, key_path: KeyPath) -> dict[str, Any]:
        """The fields of a configuration file; its path is relative to the study file."""
        if not isinstance(self.at(key_path), str):
            self.fail(key_path, "must be the path of a configuration file")
        try:
            values = read_yaml(self.document.path.parent / self.at(key_path))
            if is_original(values):
                values, _ = translate(values)
            check_names(values, FIELDS, TRAINING)
            split({**DEFAULTS, **values})
        except ConfigError as error:
            self.fail(key_path, str(error))
        return {name: value for name, value in values.items() if name != "seeds"}

    def factors(self) -> dict[str, dict[str, dict[str, Any]]]:
        """For each factor and level, the fields that the level sets."""
        factors_path = self.key_path("factors")
        if factors_path is None:
            self.fail(("factors",), "missing; expected the fields in which the cells differ")
        factors: dict[str, dict[str, dict[str, Any]]] = {}
        factor_of_field: dict[str, str] = {}
        for key, levels in self.document.mapping(factors_path, "factors to their levels").items():
            key_path, factor = (*factors_path, key), str(key)
            if not isinstance(levels, (list, dict)):
                self.fail(key_path, "must be a list of values, or a mapping of names to fields")
            if not levels:
                self.fail(key_path, "must have at least one level")
            if isinstance(levels, list):
                hint = "" if key in FACTOR_FIELDS else "; levels that set several fields need a mapping"
                self.document.check_key(key_path, FACTOR_FIELDS, TRAINING, hint)
                own = {
                    _label(level): {factor: self.field((*key_path, i), factor)}
                    for i, level in enumerate(levels)
                }
            else:
                own = {
                    _label(level): self.fields((*key_path, level), FACTOR_FIELDS, TRAINING)
                    for level in levels
                }
            if len(own) < len(levels):
                self.fail(key_path, "two levels have the same name")
            for field in {field for fields in own.values() for field in fields}:
                if factor_of_field.setdefault(field, factor) != factor:
                    self.fail(key_path, f"sets {field}, as factor {factor_of_field[field]} does")
            factors[factor] = own
        return factors

    def combinations(self, factors: dict[str, dict[str, Any]]) -> list[tuple[KeyPath, dict[str, str]]]:
        """For each cell, its key path in the file and its level of each factor."""
        cells_path = self.key_path("cells")
        if cells_path is None:
            key_path = self.key_path("factors") or ()
            self.check_count(key_path, "cells", [*factors.values()])
            grid = itertools.product(*factors.values())
            return [(key_path, dict(zip(factors, levels, strict=True))) for levels in grid]
        combinations = []
        for index in range(len(self.document.items(cells_path))):
            key_path = (*cells_path, index)
            self.document.mapping(key_path, "factors to levels")
            self.document.check_keys(key_path, list(factors), "the factors")
            levels = {str(factor): _label(level) for factor, level in self.at(key_path).items()}
            for factor, level in levels.items():
                if level not in factors[factor]:
                    self.fail((*key_path, factor), f"no level {level}; expected {', '.join(factors[factor])}")
            for factor in factors:
                if factor not in levels:
                    self.fail(key_path, f"missing level of factor {factor}")
            combinations.append((key_path, {factor: levels[factor] for factor in factors}))
        return combinations

    def check_duplicates(self, cells: list[tuple[KeyPath, Cell]]) -> None:
        """Fail if two cells have the same configuration; invalid ones fail when they run."""
        names: dict[Any, str] = {}
        for key_path, cell in cells:
            try:
                configuration = cell.configuration()
            except ConfigError:
                continue
            if configuration in names:
                self.fail(key_path, f"duplicate cell: {cell.name} equals {names[configuration]}")
            names[configuration] = cell.name

    def check_schedules(self, factors: dict[str, dict[str, dict[str, Any]]]) -> None:
        """Fail if a factor sets the learning rate's schedule."""
        for factor, levels in factors.items():
            if any("learning_rate_schedule" in fields for fields in levels.values()):
                key_path = (*(self.key_path("factors") or ()), factor)
                self.fail(key_path, "sets learning_rate_schedule; a budget in minutes needs a constant one")

    def budget(self) -> tuple[str, Any]:
        """Name and value of the budget."""
        key_path = self.key_path("budget")
        one_of = f"one of {', '.join(BUDGETS)}"
        if key_path is None:
            self.fail(("budget",), f"missing; expected {one_of}")
        if not isinstance(self.at(key_path), dict):
            self.fail(key_path, f"must be {one_of}")
        self.document.check_keys(key_path, list(BUDGETS), "a budget")
        if len(self.document.mapping(key_path)) > 1:
            self.fail(key_path, f"must be {one_of}")
        (name,) = self.at(key_path)
        return name, self.document.check((*key_path, name), BUDGETS[name])

    def evaluation(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Number of episodes, and the conditions by name."""
        evaluate = self.key_path("evaluate")
        if evaluate is None:
            return EPISODES, {AS_TRAINED: {}}
        given = self.document.mapping(evaluate)
        self.document.check_keys(evaluate, ("episodes", "conditions", "grid"), "evaluate")
        episodes = EPISODES
        if "episodes" in given:
            episodes = self.document.check((*evaluate, "episodes"), Number(int, 1, 1_000_000))
        conditions: dict[str, dict[str, Any]] = {}
        if "conditions" in given:
            key_path = (*evaluate, "conditions")
            for name in self.document.mapping(key_path, "names to fields of the game"):
                conditions[str(name)] = self.fields((*key_path, name), GAME_FIELDS, "the game")
        if "grid" in given:
            key_path = (*evaluate, "grid")
            self.document.mapping(key_path, "fields of the game to lists of values")
            self.document.check_keys(key_path, GAME_FIELDS, "the game")
            axes = [
                [
                    (name, value, self.field((*key_path, name, i), name))
                    for i, value in enumerate(self.document.items((*key_path, name)))
                ]
                for name in self.at(key_path)
            ]
            self.check_count(key_path, "conditions", axes)
            for combination in itertools.product(*axes):
                label = ", ".join(f"{name} {_label(value)}" for name, value, _ in combination)
                conditions[label] = {name: checked for name, _, checked in combination}
        return episodes, conditions or {AS_TRAINED: {}}

    def check_count(self, key_path: KeyPath, what: str, axes: list[Any]) -> None:
        """Fail if there are too many combinations, before they are listed."""
        count = math.prod(map(len, axes))
        if count > MOST_COMBINATIONS:
            self.fail(key_path, f"invalid value {count} {what}; expected at most {MOST_COMBINATIONS}")

    def fields(self, key_path: KeyPath, known: dict[str, str], what: str) -> dict[str, Any]:
        """A mapping of fields to values, which may be empty; each field is checked alone."""
        value = self.at(key_path)
        if value is None or value == {}:
            return {}
        if not isinstance(value, dict):
            self.fail(key_path, f"must be a mapping of fields of {what} to values, or empty")
        self.document.check_keys(key_path, known, what)
        return {name: self.field((*key_path, name)) for name in value}

    def field(self, key_path: KeyPath, name: str | None = None) -> Any:
        """The checked value of a field; None means "derived" where the field allows it.

        Args:
            key_path: of the value.
            name: of the field, if it is not the last key.
        """
        name, value = name or key_path[-1], self.at(key_path)
        if name in DERIVED and (value is None or (name == "response_frame" and value == "full")):
            return None
        return self.document.check(key_path, RULES[name])

    def at(self, key_path: KeyPath) -> Any:
        return self.document.at(key_path)

    def fail(self, key_path: KeyPath, message: str) -> NoReturn:
        self.document.fail(key_path, message)

    def key_path(self, key: str) -> KeyPath | None:
        """Where a key of the study is set, if anywhere."""
        return next(((*section, key) for section in self.sections if key in self.at(section)), None)


def _label(value: Any) -> str:
    """The name of a level, as in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(_label, value))
    return "default" if value is None else str(value)
