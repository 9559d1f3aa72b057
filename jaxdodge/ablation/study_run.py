"""Running a study: which results exist, which are missing, and what the executor reports."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdodge.ablation.local_executor import FAILURES, Event
from jaxdodge.ablation.result_store import ResultStore
from jaxdodge.ablation.status_display import StatusDisplay
from jaxdodge.ablation.study import Cell, Study
from jaxdodge.ablation.tasks import Task, condition_key, program_key, training_key
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs.folder import changed_game

UNFINISHED = "not finished"
Executor = Callable[[list[Task]], Iterator[Event]]


@dataclasses.dataclass
class CellResult:
    """The results of a cell so far."""

    cell: Cell
    task: Task | None
    """All seeds and evaluations; None if the configuration is invalid."""
    conditions: dict[str, str]
    """Keys of its evaluations by name of the condition."""
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    error: str | None = None

    @property
    def seeds(self) -> list[int]:
        """All seeds of the study."""
        return list(self.task.seeds) if self.task else []

    def of_seed(self, seed: int) -> tuple[dict[str, Any], int]:
        """The result that contains a seed, and the seed's index in it."""
        result = next(one for one in self.results if seed in one["seeds"])
        return result, result["seeds"].index(seed)

    def evaluations(self, name: str) -> np.ndarray:
        """Its evaluations' `mean` (return) or `survival`: float64 (seeds, conditions)."""
        rows = []
        for seed in self.seeds:
            result, index = self.of_seed(seed)
            rows.append([result["evaluations"][key][index][name] for key in self.conditions.values()])
        return np.array(rows, np.float64)

    @property
    def curves(self) -> list[list[dict[str, float]]]:
        """The evaluations of each seed in training."""
        found = [self.of_seed(seed) for seed in self.seeds]
        return [result["curves"][index] for result, index in found]

    @property
    def scores(self) -> np.ndarray:
        """The mean return of each seed over all conditions: float64 (seeds,)."""
        return self.evaluations("mean").mean(axis=1)


def cell_results(study: Study, folder: Path) -> list[CellResult]:
    """The cells of a study without their results; an invalid configuration is recorded as error.

    Args:
        study: with the cells.
        folder: of the study's results.
    """
    return [_cell_result(study, cell, folder / "runs") for cell in study.cells]


def _cell_result(study: Study, cell: Cell, folder: Path) -> CellResult:
    try:
        game, train = cell.configuration()
        train = dataclasses.replace(train, seeds=study.seeds)
        games = {name: _condition(game, name, fields) for name, fields in study.conditions.items()}
    except ConfigError as error:
        return CellResult(cell, None, {}, error=str(error))
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
    return CellResult(cell, task, keys)


def _condition(game: GameConfig, name: str, fields: dict[str, Any]) -> GameConfig:
    """The game of an evaluation; raises ConfigError with the condition's name."""
    try:
        return changed_game(game, fields)
    except ConfigError as error:
        raise ConfigError(f"condition {name}: {error}") from None


def load(cells: list[CellResult], store: ResultStore) -> None:
    """Read the results of every cell from disk."""
    for cell in cells:
        if cell.task:
            cell.results = store.results(cell.task.key)
            # A diverged training would diverge again, so its error is kept as a result.
            errors = [result["error"] for result in cell.results if "error" in result]
            cell.error = errors[0] if errors else cell.error


def leave_out_unfinished(cells: list[CellResult], store: ResultStore) -> bool:
    """Mark the cells that lack results with the error UNFINISHED; returns whether any has all.

    Args:
        cells: after `load`; updated in place.
        store: of the study.
    """
    for cell in cells:
        if cell.error is None and cell.task and store.missing(cell.task):
            cell.error = UNFINISHED
    return any(cell.error is None for cell in cells)


def run_missing(
    cells: list[CellResult], store: ResultStore, execute: Executor, display: StatusDisplay
) -> None:
    """Compute the missing results and store each as soon as it arrives.

    Args:
        cells: after `load`; updated in place.
        store: of the study.
        execute: computes tasks.
        display: shows the progress.
    """
    tasks: list[Task] = []
    for cell in cells:
        if cell.task is None:
            display.end(cell.cell.name, None, cell.error)
            continue
        missing = store.missing(cell.task)
        tasks += missing
        if not missing:
            display.skip(cell.cell.name, None if cell.error else float(cell.scores.mean()))
    by_name = {cell.cell.name: cell for cell in cells}
    # In the study's order, but tasks with the same program follow one another: it is compiled once.
    programs = list(dict.fromkeys(map(program_key, tasks)))
    tasks.sort(key=lambda task: programs.index(program_key(task)))
    for event in execute(tasks):
        task = tasks[event.task]
        cell = by_name[task.cell]
        if event.kind == "started":
            display.start(task.cell)
        elif event.kind == "progress":
            display.progress(task.cell, event.content)
        elif event.kind == "result":
            store.write(*event.content)
        elif event.kind == "diverged":
            store.write(task.name, {"key": task.key, "seeds": [*task.seeds], "error": event.content})
        if event.kind in FAILURES:
            cell.error = cell.error or event.content
            display.end(task.cell, None, cell.error)
        load([cell], store)
        if event.kind == "done" and not cell.error and cell.task and not store.missing(cell.task):
            display.end(task.cell, float(cell.scores.mean()))
