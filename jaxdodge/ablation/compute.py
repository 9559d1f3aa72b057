"""Trains and evaluates the seeds of a cell; runs in the worker process, which imports JAX."""

import contextlib
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdodge.ablation.cell_evaluation import evaluate_conditions, sample_frame
from jaxdodge.ablation.tasks import Task, configuration, program_key, training_key
from jaxdodge.agents.program import forget_programs
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.episodes import evaluate
from jaxdodge.fields import ConfigError
from jaxdodge.files import read_json
from jaxdodge.hardware import return_freed_memory
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.folder import Run
from jaxdodge.runs.loop import Training
from jaxdodge.runs.memory import TooLargeError

BUDGET_SPENT = "budget spent"

Report = Callable[[dict[str, Any]], None]


class BudgetProgress:
    """In place of `TrainingProgress`: reports `done` (0 to 1), `left` (seconds) and `score`.

    A budget in minutes starts after the first epoch, when everything is compiled: of cells that
    share a program, only the first one compiles.

    Args:
        report: called with new values.
        minutes: the budget, if it is given in minutes.
        before: seconds of earlier sessions of the run.
    """

    def __init__(self, report: Report, minutes: float | None, before: float = 0.0):
        self._report, self._minutes, self._before = report, minutes, before
        self._started: float | None = None

    def begin(self, total: int, done: int, seconds: Callable[[], float]) -> "BudgetProgress":
        """Itself, for a training of `total` environment steps, `done` of them made."""
        self._total, self._steps, self._seconds = total, done, seconds
        return self

    @property
    def spent(self) -> float:
        """Share of the minutes that is used; 0 for other budgets."""
        if self._minutes is None or self._started is None:
            return 0.0
        return (self._before + self._seconds() - self._started) / (60 * self._minutes)

    def __enter__(self) -> "BudgetProgress":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def say(self, line: str) -> None:
        print(line, flush=True)

    def advance(self, steps: int, rates: dict[str, float], left: float | None) -> None:
        self._steps += steps
        self._started = self._seconds() if self._started is None else self._started
        done = self._steps / self._total
        if self._minutes is not None:
            budget = max(60 * self._minutes * (1 - self.spent), 0.0)
            left = budget if left is None else min(left, budget)
            done = max(done, self.spent)
        self._report({"done": min(done, 1.0)} | ({} if left is None else {"left": left}))

    def evaluation(self, evaluations: list[dict[str, float]], rates: dict[str, float]) -> None:
        self._report({"score": float(np.mean([one["mean"] for one in evaluations]))})


def compute(
    task: Task, report: Report = lambda _: None, interrupted: Callable[[], str | None] = lambda: None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train the seeds of a task and evaluate them.

    An existing run is resumed, or only evaluated if it is finished. Seeds that do not fit into
    memory together are trained in groups, see `fitting`.

    Args:
        task: of a cell.
        report: called with the progress.
        interrupted: called after every epoch; once it returns a reason, nothing more is yielded.

    Yields:
        Name of the result file, and the result.

    Raises:
        ConfigError: the configuration is invalid, one seed alone does not fit into memory, or the
            code differs from that of the study.
        DivergedError: a quantity is not finite.
    """
    if training_key(task.game, task.train, task.minutes) != task.key:
        raise ConfigError("the code on this machine differs from the study's; start the study again")
    reset_memory(program_key(task))
    run = Run(task.folder / task.name)
    summary = _summary(run)
    if summary is None:
        training, groups = fitting(task)
        if len(groups) > 1:
            for group in groups:
                yield from compute(group, report, interrupted)
                if interrupted():
                    return
            return
        summary = _train(task, run, training, report, interrupted)
    if summary is None:
        return
    trained = time.perf_counter()
    evaluations = evaluate_conditions(task, run)
    seeds, timesteps = task.train.seeds, summary["timesteps"]
    updates = round(summary["updates"] / seeds)
    yield (
        task.name,
        {
            "key": task.key,
            "seeds": list(task.seeds),
            "configuration": configuration(task.game, task.train),
            "evaluations": evaluations,
            "curves": [_curve(part) for part in run.seed_runs(task.train)],
            "sample_frame": sample_frame(task.game),
            "cost": {
                "training_seconds": summary["wall_seconds"],
                "evaluation_seconds": time.perf_counter() - trained,
                "memory_bytes": peak_memory(),
                "environment_steps": timesteps * seeds,
                "updates": updates * seeds,
                "game_frames": timesteps * seeds * task.game.frames_per_step,
                "images_drawn": seeds * images_drawn(task.game, task.train, timesteps, updates),
            },
            "hardware": summary["hardware"],
        },
    )


def _summary(run: Run) -> dict[str, Any] | None:
    """The summary of a finished training, or None."""
    try:
        summary = read_json(run.folder / "summary.json")
    except (OSError, ValueError):
        return None
    if not isinstance(summary, dict) or summary.get("stopped", "") not in (None, BUDGET_SPENT):
        return None
    return summary


def fitting(
    task: Task, make: Callable[[GameConfig, TrainConfig], Any] | None = None
) -> tuple[Any, list[Task]]:
    """The training of the first group of seeds, and all groups: the fewest that fit into memory.

    Args:
        task: with the seeds.
        make: in place of `Training`; raises TooLargeError for a group that does not fit.

    Raises:
        TooLargeError: one seed alone does not fit.
    """
    count = 1
    while True:
        groups = task.split(count)
        largest = groups[0]
        reset_memory(program_key(largest))
        try:
            return (make or Training)(largest.game, largest.train), groups
        except TooLargeError:
            if largest.train.seeds == 1:
                raise
        count += 1


def _train(
    task: Task, run: Run, training: Training, report: Report, interrupted: Callable[[], str | None]
) -> dict[str, Any] | None:
    """Train until the budget is spent; the summary, or None if interrupted."""
    # Includes the compilation time of earlier sessions, which is not recorded separately.
    before = 0.0
    if Checkpoints(run.checkpoints).steps():
        own = training.seconds
        training.resume(run)
        before = training.seconds - own
    else:
        training.start()
        run.prepare(task.game, task.train)
    if task.minutes is not None:
        # Compile the evaluation before the minutes start.
        trainer, count = training.trainer, task.train.n_eval_episodes
        policy = training.best_policies[0]
        evaluate(trainer.env, trainer.policy, policy, training.params, jax.random.key(0), count)
    progress = BudgetProgress(report, task.minutes, before)

    def stop() -> str | None:
        return interrupted() or (BUDGET_SPENT if progress.spent >= 1 else None)

    training.learn(run, stop, progress.begin)
    summary = _summary(run)
    if summary is not None:
        # Later evaluations need the policies only; checkpoints are large.
        Checkpoints(run.checkpoints).delete()
    return summary


def _curve(run: Run) -> list[dict[str, float]]:
    """The evaluations during training."""
    lines = (run.folder / "logs" / "metrics.jsonl").read_text().splitlines()
    names = {"timesteps": "timesteps", "seconds": "seconds"}
    names |= {"return": "evaluation/mean", "survival": "evaluation/survival"}
    return [{name: line[key] for name, key in names.items()} for line in map(json.loads, lines)]


def images_drawn(game: GameConfig, train: TrainConfig, timesteps: int, updates: int) -> int:
    """Images drawn to train a seed: the stack, per action and twice per sampled transition."""
    if game.observation_mode != "topdown":
        return 0
    return game.frame_stack * (timesteps + 2 * updates * train.batch_size)


# `program_key` of the latest task.
_program = ""


def reset_memory(program: str) -> None:
    """Free the programs of other tasks and, on Linux, reset the process's peak memory.

    Otherwise a cell's memory would include that of all cells before it.

    Args:
        program: see `program_key`; what is compiled for it stays.
    """
    global _program
    if program != _program:
        _program = program
        forget_programs()
        return_freed_memory()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Peak bytes since `reset_memory`: of the device if it reports them, else of the process."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return int(statistics["peak_bytes_in_use"])
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
