"""A study on its way: what is there already, what is left to do, and what has become of it."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdodge.ablation.cells import Store, Task, condition_key, program_of, training_key
from jaxdodge.ablation.local import FAILURES, News
from jaxdodge.ablation.screen import Screen
from jaxdodge.ablation.study import Cell, Study
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs.folder import changed_game

Executor = Callable[[list[Task]], Iterator[News]]


@dataclasses.dataclass
class Outcome:
    """What there is of a cell."""

    cell: Cell
    task: Task | None
    """All of it; None where the configuration is refused."""
    conditions: dict[str, str]
    """By name, the keys of its evaluations."""
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    error: str | None = None

    @property
    def seeds(self) -> list[int]:
        """Those that are to be trained."""
        train = self.task.train if self.task else None
        return list(range(train.seed, train.seed + train.seeds)) if train else []

    def of_seed(self, seed: int) -> tuple[dict[str, Any], int]:
        """The result that has a seed, and the seed's place in it."""
        result = next(one for one in self.results if seed in one["seeds"])
        return result, result["seeds"].index(seed)

    def figure(self, name: str) -> np.ndarray:
        """Of its evaluations, `mean` or `survival`: float64 (seeds, conditions)."""
        rows = []
        for seed in self.seeds:
            result, place = self.of_seed(seed)
            rows.append([result["evaluations"][key][place][name] for key in self.conditions.values()])
        return np.array(rows, np.float64)

    @property
    def score(self) -> np.ndarray:
        """The mean return over all conditions, of each seed: float64 (seeds,)."""
        return self.figure("mean").mean(axis=1)


def outcomes_of(study: Study, folder: Path) -> list[Outcome]:
    """The cells of a study, without results; where a configuration is refused, with that as error.

    Args:
        study: whose cells.
        folder: of the study's results.
    """
    return [_outcome(study, cell, folder / "runs") for cell in study.cells]


def _outcome(study: Study, cell: Cell, folder: Path) -> Outcome:
    try:
        game, train = cell.configuration()
        train = dataclasses.replace(train, seeds=study.seeds)
        games = {name: _condition(game, name, fields) for name, fields in study.conditions.items()}
    except ConfigError as error:
        return Outcome(cell, None, {}, error=str(error))
    keys = {name: condition_key(game, study.episodes) for name, game in games.items()}
    task = Task(
        cell=cell.name,
        key=training_key(game, train, study.minutes),
        game=game,
        train=train,
        minutes=study.minutes,
        conditions={keys[name]: game for name, game in games.items()},
        episodes=study.episodes,
        folder=folder.absolute(),
    )
    return Outcome(cell, task, keys)


def _condition(game: GameConfig, name: str, fields: dict[str, Any]) -> GameConfig:
    """The game of an evaluation; raises ConfigError with the condition's name."""
    try:
        return changed_game(game, fields)
    except ConfigError as error:
        raise ConfigError(f"condition {name}: {error}") from None


def load(outcomes: list[Outcome], store: Store) -> None:
    """Read what there is of every cell."""
    for outcome in outcomes:
        if outcome.task:
            outcome.results = store.results(outcome.task.key)
            # One that is not finite comes out the same again; it is a result, and not tried again.
            errors = [result["error"] for result in outcome.results if "error" in result]
            outcome.error = errors[0] if errors else outcome.error


def run(outcomes: list[Outcome], store: Store, execute: Executor, screen: Screen) -> None:
    """Compute what is missing, and put it on disk as it comes.

    Args:
        outcomes: as `load` has left them; afterwards with what has come.
        store: of the study.
        execute: computes tasks.
        screen: shows what happens.
    """
    tasks: list[Task] = []
    for outcome in outcomes:
        if outcome.task is None:
            screen.end(outcome.cell.name, None, outcome.error)
            continue
        missing = store.missing(outcome.task)
        tasks += missing
        if not missing:
            screen.skip(outcome.cell.name, None if outcome.error else float(outcome.score.mean()))
    of_cell = {outcome.cell.name: outcome for outcome in outcomes}
    # Side by side, what differs in numbers alone; it is compiled once.
    tasks.sort(key=program_of)
    for news in execute(tasks):
        task = tasks[news.task]
        outcome = of_cell[task.cell]
        if news.kind == "begun":
            screen.begin(task.cell)
        elif news.kind == "progress":
            screen.progress(task.cell, news.content)
        elif news.kind == "result":
            store.write(*news.content)
        elif news.kind == "diverged":
            seeds = list(range(task.train.seed, task.train.seed + task.train.seeds))
            store.write(task.name, {"key": task.key, "seeds": seeds, "error": news.content})
        if news.kind in FAILURES:
            outcome.error = outcome.error or news.content
            screen.end(task.cell, None, outcome.error)
        load([outcome], store)
        if news.kind == "done" and not outcome.error and outcome.task and not store.missing(outcome.task):
            screen.end(task.cell, float(outcome.score.mean()))
