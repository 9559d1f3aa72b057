"""The file of a study: read, and refused with the line of what is wrong. Nothing here imports JAX."""

import itertools
from pathlib import Path
from typing import Any, cast

from jaxdodge.ablation.checked import FIELDS, NOT_A_FACTOR, Checked
from jaxdodge.ablation.places import Document, Way
from jaxdodge.ablation.study import Cell, Study
from jaxdodge.config import GAME_FIELDS
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
# Environment steps that minutes end before; they are counted in int32.
ENDLESS = 2_000_000_000
AS_TRAINED = "as trained"
EPISODES = 128
SEEDS = 3


def read_study(path: Path, full: bool = False) -> Study:
    """Read a study file.

    Args:
        path: of a YAML file, see `docs/studies.md`.
        full: what its section `full` says replaces the rest, field by field for `base`.

    Raises:
        ConfigError: one line that names the file, the line and what is accepted.
    """
    return _Reader(Document(path), full).study()


class _Reader(Checked):
    """From a document to a study; every method checks the part that it is named after."""

    def __init__(self, document: Document, full: bool):
        super().__init__(document, [("full",), ()] if full else [()])
        self.known((), KEYS)
        if full and "full" not in document.content:
            self.refuse((), "full: there is no such section, so there is only the one version of the study")
        if "full" in document.content:
            self.mapping(("full",))
            self.known(("full",), tuple(key for key in KEYS if key != "full"))

    def study(self) -> Study:
        factors = self.factors()
        budget, value = self.budget()
        base = self.base()
        if budget == "total_timesteps":
            base["total_timesteps"] = value
        elif budget == "minutes":
            base |= {"total_timesteps": ENDLESS, "learning_rate_schedule": "constant"}
            self.refuse_schedules(factors)
        combinations = self.combinations(factors)
        cells = []
        for way, levels in combinations:
            fields = dict(base)
            for factor, level in levels.items():
                fields |= factors[factor][level]
            name = ", ".join(f"{factor} {level}" for factor, level in levels.items())
            cells.append((way, Cell(name, levels, fields, value if budget == "updates" else None)))
        self.refuse_duplicates(cells)
        question = self.way("question")
        if question is None or not isinstance(self.at(question), str) or not self.at(question).strip():
            self.refuse(question or ("question",), "must be text: what the study is to answer")
        episodes, conditions = self.evaluation()
        seeds = self.way("seeds")
        return Study(
            name=self.document.path.stem,
            question=one_line(self.at(question)),
            factors={name: list(levels) for name, levels in factors.items()},
            cells=[cell for _, cell in cells],
            seeds=self.check(seeds, Number(int, 1, 1000), self.at(seeds)) if seeds else SEEDS,
            minutes=value if budget == "minutes" else None,
            episodes=episodes,
            conditions=conditions,
        )

    def base(self) -> dict[str, Any]:
        """The fields that all cells have, preset and defaults included."""
        fields: dict[str, Any] = {}
        preset: Way | None = None
        for section in reversed(self.sections):
            way = (*section, "base")
            if "base" not in self.at(section):
                continue
            if isinstance(self.at(way), str):
                preset = way
                continue
            self.mapping(way)
            own = FIELDS | NOT_A_FACTOR | {"seed": "", "preset": ""}
            self.known(way, own, "the game or the training")
            if "preset" in self.at(way):
                preset = (*way, "preset")
            fields |= {name: self.value((*way, name), name) for name in self.at(way) if name != "preset"}
        return {**DEFAULTS, **(self.preset(preset) if preset else {}), **fields}

    def preset(self, way: Way) -> dict[str, Any]:
        """The fields of a configuration file, whose path is relative to the study's."""
        if not isinstance(self.at(way), str):
            self.refuse(way, "must be the path of a configuration file")
        try:
            values = read_yaml(self.document.path.parent / self.at(way))
            if is_original(values):
                values, _ = translate(values)
            check_names(values, FIELDS, "the game or the training")
            split({**DEFAULTS, **values})
        except ConfigError as error:
            self.refuse(way, str(error))
        return {name: value for name, value in values.items() if name != "seeds"}

    def factors(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Of each factor and level, the fields that it sets."""
        way = self.way("factors")
        if way is None:
            self.refuse(("factors",), "missing: what the cells differ in")
        accepted = FIELDS | NOT_A_FACTOR
        found: dict[str, dict[str, dict[str, Any]]] = {}
        setters: dict[str, str] = {}
        for factor, levels in self.mapping(way, "factors to their levels").items():
            here = (*way, factor)
            name = str(factor)
            if isinstance(levels, list):
                hint = "" if name in accepted else "; named variants of several fields are a mapping"
                self.known_name(here, name, accepted, "the game or the training", hint)
                found[name] = {
                    _label(level): {name: self.value((*here, index), name)}
                    for index, level in enumerate(levels)
                }
                sizes = len(levels)
            elif isinstance(levels, dict):
                found[name] = {}
                for variant, fields in levels.items():
                    if fields is not None and not isinstance(fields, dict):
                        self.refuse((*here, variant), "must be a mapping of fields to values, or empty")
                    own = self.fields((*here, variant), accepted) if fields else {}
                    found[name][_label(variant)] = own
                sizes = len(levels)
            else:
                self.refuse(here, "must be a list of values, or a mapping of names to fields")
            if not sizes:
                self.refuse(here, "has no levels, so the grid is empty")
            if len(found[name]) < sizes:
                self.refuse(here, "two levels have the same name")
            for field in {field for own in found[name].values() for field in own}:
                if setters.setdefault(field, name) != name:
                    self.refuse(here, f"sets {field}, as factor {setters[field]} does")
        return found

    def combinations(self, factors: dict[str, dict[str, Any]]) -> list[tuple[Way, dict[str, str]]]:
        """Of each cell, where it is in the file and its level of each factor."""
        way = self.way("cells")
        if way is None:
            place = cast(Way, self.way("factors"))
            products = itertools.product(*factors.values())
            return [(place, dict(zip(factors, levels, strict=True))) for levels in products]
        if not isinstance(self.at(way), list) or not self.at(way):
            self.refuse(way, "must be a list of cells, with at least one; without this key there is the grid")
        found = []
        for index in range(len(self.at(way))):
            here = (*way, index)
            self.mapping(here, "factors to levels")
            self.known(here, list(factors), "the factors")
            levels = {str(factor): _label(level) for factor, level in self.at(here).items()}
            for factor, level in levels.items():
                if level not in factors[factor]:
                    accepted = ", ".join(factors[factor])
                    self.refuse((*here, factor), f"{level} is not one of its levels; expected {accepted}")
            for factor in factors:
                if factor not in levels:
                    self.refuse(here, f"has no level of factor {factor}")
            found.append((here, {factor: levels[factor] for factor in factors}))
        return found

    def refuse_duplicates(self, cells: list[tuple[Way, Cell]]) -> None:
        """Two cells are the same if their configurations are; refused ones are judged when they run."""
        seen: dict[Any, str] = {}
        for way, cell in cells:
            try:
                configuration = cell.configuration()
            except ConfigError:
                continue
            if configuration in seen:
                self.refuse(way, f"duplicate cell: {cell.name} is the same as {seen[configuration]}")
            seen[configuration] = cell.name

    def refuse_schedules(self, factors: dict[str, dict[str, dict[str, Any]]]) -> None:
        """Refuse factors that are to set how the learning rate falls."""
        for factor, levels in factors.items():
            if any("learning_rate_schedule" in fields for fields in levels.values()):
                way = (*cast(Way, self.way("factors")), factor)
                self.refuse(way, "sets learning_rate_schedule; with a budget in minutes that is constant")

    def budget(self) -> tuple[str, Any]:
        """Name and value of the budget."""
        way = self.way("budget")
        accepted = ", ".join(BUDGETS)
        if way is None:
            self.refuse(("budget",), f"missing: what a cell may take; expected one of {accepted}")
        if not isinstance(self.at(way), dict):
            self.refuse(way, f"must be one of {accepted}")
        self.known(way, list(BUDGETS), "a budget")
        if len(self.mapping(way)) > 1:
            self.refuse(way, f"must be one of {accepted}")
        ((name, value),) = self.at(way).items()
        return name, self.check((*way, name), BUDGETS[name], value)

    def evaluation(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Episodes, and the conditions by name."""
        way = self.way("evaluate")
        if way is None:
            return EPISODES, {AS_TRAINED: {}}
        self.mapping(way)
        self.known(way, ("episodes", "conditions", "grid"), "evaluate")
        episodes = EPISODES
        if "episodes" in self.at(way):
            here = (*way, "episodes")
            episodes = self.check(here, Number(int, 1, 1_000_000), self.at(here))
        conditions: dict[str, dict[str, Any]] = {}
        if "conditions" in self.at(way):
            here = (*way, "conditions")
            for name, fields in self.mapping(here, "names to fields of the game").items():
                if fields is not None and not isinstance(fields, dict):
                    self.refuse((*here, name), "must be a mapping of fields of the game to values, or empty")
                conditions[str(name)] = self.fields((*here, name), GAME_FIELDS) if fields else {}
        if "grid" in self.at(way):
            here = (*way, "grid")
            self.mapping(here, "fields of the game to lists of values")
            self.known(here, GAME_FIELDS, "the game")
            axes = []
            for name, values in self.at(here).items():
                if not isinstance(values, list) or not values:
                    self.refuse((*here, name), "must be a list of values, with at least one")
                axes.append(
                    [
                        (name, value, self.value((*here, name, index), name))
                        for index, value in enumerate(values)
                    ]
                )
            for combination in itertools.product(*axes):
                label = ", ".join(f"{name} {_label(value)}" for name, value, _ in combination)
                conditions[label] = {name: checked for name, _, checked in combination}
        return episodes, conditions or {AS_TRAINED: {}}


def _label(value: Any) -> str:
    """A level's name, as the file says it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(_label, value))
    return "default" if value is None else str(value)
