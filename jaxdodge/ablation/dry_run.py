"""The dry run of a study: its cells, their memory and the estimated time."""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxdodge.ablation.local_executor import ENDS, Event, run_locally
from jaxdodge.ablation.result_store import ResultStore
from jaxdodge.ablation.study_run import CellResult
from jaxdodge.ablation.tasks import Task, program_key
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.tables import seconds_text
from jaxdodge.outputs import plain_console

# After so many seconds no further program is calibrated.
CALIBRATION_SECONDS = 20.0
TIMES = ("compile", "epochs", "evaluations")
NOT_CALIBRATED = (
    "~: not calibrated; memory without temporary arrays, times as the mean of the calibrated cells"
)


def dry_run(cells: list[CellResult], store: ResultStore, cache: Path) -> None:
    """Print a row per cell, and the estimated time of all that is missing.

    Args:
        cells: after `load`.
        store: of the study.
        cache: folder for compiled programs, which the study reuses.
    """
    console = plain_console()
    width = max(len(cell.cell.name) for cell in cells)
    console.print(
        f"{'cell':{width}}  {'memory':>9}  seeds at once  {'compile':>12}  {'training':>12}  evaluation"
    )
    missing = [cell for cell in cells if cell.task is None or store.missing(cell.task)]
    estimates = calibrate(missing, cache)
    calibrated: list[dict[str, Any]] = []
    total, approximate = 0.0, False
    with console.status("calibrating") as status:
        for cell in cells:
            status.update(f"calibrating {cell.cell.name}")
            estimate = next(estimates)[1] if cell in missing else "finished earlier"
            if isinstance(estimate, str):
                console.print(f"{cell.cell.name:{width}}  {estimate}")
                continue
            mark = "" if TIMES[0] in estimate else "~"
            if mark:
                approximate = True
                estimate = estimate | {name: _mean(one[name] for one in calibrated) for name in TIMES}
            else:
                calibrated.append(estimate)
            total += sum(estimate[name] for name in TIMES)
            times = "  ".join(f"{mark + seconds_text(estimate[name]):>12}" for name in TIMES)
            memory = f"{mark}{estimate['memory_bytes'] / 1e6:,.0f} MB"
            console.print(
                f"{cell.cell.name:{width}}  {memory:>9}  {estimate['seeds_per_program']:>13}  {times}"
            )
    console.print(f"total, one cell after another: {'~' * approximate}{seconds_text(total)}")
    if approximate:
        console.print(NOT_CALIBRATED)


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean([*values] or [0.0])


def calibrate(cells: list[CellResult], cache: Path) -> Iterator[tuple[CellResult, dict[str, Any] | str]]:
    """For each cell the estimate of its task, or why there is none.

    Cells that share a program are measured once; the compilation is counted once.

    Args:
        cells: of a study.
        cache: folder for compiled programs.
    """
    programs: dict[str, Task] = {}
    for cell in cells:
        if cell.task:
            programs.setdefault(program_key(cell.task), cell.task)
    events = run_locally([*programs.values()], lambda: None, Path(os.devnull), cache, Calibration())
    estimates: dict[str, dict[str, Any] | str] = {}
    for cell in cells:
        if cell.task is None:
            yield cell, f"invalid: {cell.error}"
            continue
        program = program_key(cell.task)
        if program in estimates:
            known = estimates[program]
            shared = {"compile": 0.0} if "compile" in known else {}
            yield cell, known if isinstance(known, str) else known | shared
            continue
        estimates[program] = _next_result(events)
        yield cell, estimates[program]


def _next_result(events: Iterator[Event]) -> dict[str, Any] | str:
    """The result of the next task, or why it has none."""
    result: dict[str, Any] = {}
    for event in events:
        if event.kind == "result":
            result = event.content
        elif event.kind in ENDS:
            return result if event.kind == "done" else f"{event.kind}: {event.content}"
    return result


class Calibration:
    """In place of `compute`: yields `estimate_task`, or `estimate_memory` once the time is over.

    It lives in the worker process. A task is calibrated only if the longest calibration so far
    would still end in time; the first task always is.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.longest = 0.0

    def __call__(self, task: Task, *_: Any) -> Iterator[dict[str, Any]]:
        start = time.monotonic()
        self.deadline = self.deadline or start + CALIBRATION_SECONDS
        if start + self.longest > self.deadline:
            yield estimate_memory(task)
            return
        yield estimate_task(task)
        self.longest = max(self.longest, time.monotonic() - start)


def estimate_memory(task: Task) -> dict[str, Any]:
    """`memory_bytes` and `seeds_per_program` of a task, without the temporary arrays of an epoch.

    Raises:
        ConfigError: the configuration is invalid, or one seed alone does not fit into memory.
    """
    from jaxdodge.ablation.compute import fitting
    from jaxdodge.agents.program import shared_program
    from jaxdodge.runs.epochs import steps_of_an_epoch
    from jaxdodge.runs.memory import Memory, check_fits, estimate

    def memory(game: GameConfig, train: TrainConfig) -> Memory:
        found = estimate(shared_program(game, train, steps_of_an_epoch(game, train)).shapes)
        check_fits(found, game, train)
        return found

    found, groups = fitting(task, memory)
    return {"memory_bytes": found.total, "seeds_per_program": groups[0].train.seeds}


def estimate_task(task: Task) -> dict[str, Any]:
    """Memory and time of a task, from one compilation, one epoch of updates and one evaluation.

    Returns:
        `memory_bytes`, `seeds_per_program`, and the seconds of `total_seconds`.

    Raises:
        ConfigError: the configuration is invalid, or one seed alone does not fit into memory.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxdodge.ablation.compute import fitting
    from jaxdodge.agents.program import shared_program
    from jaxdodge.agents.train_config import rows_needed
    from jaxdodge.evaluation.episodes import evaluate

    def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
        start = time.perf_counter()
        result = jax.block_until_ready(function(*arguments))
        return time.perf_counter() - start, result

    start = time.perf_counter()
    training, groups = fitting(task)
    training.start()
    compiled = time.perf_counter() - start
    program = shared_program(groups[0].game, groups[0].train, training.steps_per_epoch)
    # The initial state, at a step that is late enough for updates.
    late = jnp.int32(task.train.learning_starts + rows_needed(task.game.frame_stack, task.train.n_step))
    epoch, _ = timed(program.epoch, training.state, training.params, late)
    trainer, count = training.trainer, task.train.n_eval_episodes
    policy = jax.tree.map(jnp.asarray, training.best_policies[0])
    play = evaluate, trainer.env, trainer.policy, policy, training.params, jax.random.key(0), count
    first, _ = timed(*play)
    evaluation, episodes = timed(*play)
    # Episodes of an untrained policy are short; those of a trained one last until truncation.
    longest = evaluation * task.game.max_episode_steps / np.asarray(episodes.lengths).max()
    epochs = epoch * (training.total // training.timesteps_per_epoch)
    # Two evaluations are compiled: that during training, and that of all conditions.
    compiled += 2 * (first - evaluation)
    memory = {"memory_bytes": training.memory.total, "seeds_per_program": groups[0].train.seeds}
    return memory | total_seconds(task, groups, compiled, epochs, longest / count)


def total_seconds(
    task: Task, groups: list[Task], compiled: float, epochs: float, episode: float
) -> dict[str, float]:
    """Seconds of a task that is trained in groups: `compile`, `epochs`, `evaluations`.

    Args:
        task, groups: see `fitting`.
        compiled: seconds to compile a program; groups of one size share it.
        epochs: seconds of all epochs of a group.
        episode: seconds of an episode of one seed.
    """
    during = max(task.train.total_timesteps // task.train.eval_freq, 1) * task.train.n_eval_episodes
    if task.minutes is not None:
        # The budget includes the evaluations during training.
        epochs, during = 60 * task.minutes, 0
    afterwards = len(task.conditions) * task.episodes
    return {
        "compile": len({group.train.seeds for group in groups}) * compiled,
        "epochs": len(groups) * epochs,
        "evaluations": task.train.seeds * episode * (during + afterwards),
    }
