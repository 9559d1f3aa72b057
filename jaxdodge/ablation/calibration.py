"""What a study will take, known before it is run; measured in a process of its own, which imports JAX."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxdodge.ablation.cells import Task, program_of
from jaxdodge.ablation.local import ENDS, News, run_locally
from jaxdodge.ablation.running import Outcome


def calibrate(outcomes: list[Outcome], compiled: Path) -> Iterator[tuple[Outcome, dict[str, Any] | str]]:
    """Of each cell, see `estimate`, or why it is refused.

    Cells that share a program are measured once, and their compilation counts once.

    Args:
        outcomes: of the cells.
        compiled: folder for compiled programs, which the study then need not compile again.
    """
    programs: dict[str, Task] = {}
    for outcome in outcomes:
        if outcome.task:
            programs.setdefault(program_of(outcome.task), outcome.task)
    news = run_locally([*programs.values()], lambda: None, Path(os.devnull), compiled, _estimate)
    found: dict[str, dict[str, Any] | str] = {}
    for outcome in outcomes:
        if outcome.task is None:
            yield outcome, outcome.error or ""
            continue
        program = program_of(outcome.task)
        if program in found:
            again = found[program]
            yield outcome, again if isinstance(again, str) else again | {"compile": 0.0}
            continue
        found[program] = _ended(news)
        yield outcome, found[program]


def _ended(news: Iterator[News]) -> dict[str, Any] | str:
    """The result of the next task that ends, or why it has none."""
    result: dict[str, Any] = {}
    for one in news:
        if one.kind == "result":
            result = one.content
        elif one.kind in ENDS:
            return one.content or result
    return result


def _estimate(task: Task, tell: Any, interrupted: Callable[[], str | None]) -> Iterator[dict[str, Any]]:
    """In place of `compute`."""
    yield estimate(task)


def estimate(task: Task) -> dict[str, Any]:
    """What a task will take, from a short calibration: compile, an epoch that learns, an evaluation.

    Returns:
        `memory_bytes`, `seeds_per_program`, and seconds: `compile`, `epochs` (all of them), `evaluations`.

    Raises:
        ConfigError: the configuration is refused, or one seed alone does not fit.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxdodge.ablation.compute import fitting
    from jaxdodge.agents.programs import shared_program
    from jaxdodge.agents.train_config import rows_needed
    from jaxdodge.evaluation.episodes import evaluate

    def seconds(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
        began = time.perf_counter()
        result = jax.block_until_ready(function(*arguments))
        return time.perf_counter() - began, result

    began = time.perf_counter()
    training, parts = fitting(task)
    training.start()
    compiled = time.perf_counter() - began
    program = shared_program(parts[0].game, parts[0].train, training.steps_per_epoch)
    # Of any state; what matters is that it is late enough to learn.
    late = jnp.int32(task.train.learning_starts + rows_needed(task.game.frame_stack, task.train.n_step))
    epoch, _ = seconds(program.epoch, training.state, training.params, late)
    sac, count = training.sac, task.train.n_eval_episodes
    policy = jax.tree.map(jnp.asarray, training.best_policies[0])
    play = evaluate, sac.env, sac.policy, policy, training.params, jax.random.key(0), count
    first, _ = seconds(*play)
    evaluation, episodes = seconds(*play)
    # An untrained policy does not live long; a trained one plays to the limit.
    whole = evaluation * task.game.max_episode_steps / np.asarray(episodes.lengths).max()
    epochs = epoch * (training.total // training.timesteps_per_epoch)
    # Evaluations are compiled twice: while training, and for all conditions.
    compiled += 2 * (first - evaluation)
    found = {"memory_bytes": training.memory.total, "seeds_per_program": parts[0].train.seeds}
    return found | in_all(task, parts, compiled, epochs, whole / count)


def in_all(task: Task, parts: list[Task], compiled: float, epochs: float, episode: float) -> dict[str, float]:
    """Seconds of a task that is trained in parts: `compile`, `epochs`, `evaluations`.

    Args:
        task, parts: see `fitting`.
        compiled: seconds that a program takes to compile; parts of one size share theirs.
        epochs: seconds of the epochs of a part.
        episode: seconds of an episode of one seed.
    """
    while_training = max(task.train.total_timesteps // task.train.eval_freq, 1) * task.train.n_eval_episodes
    if task.minutes is not None:
        # Of which the evaluations while training are a part.
        epochs, while_training = 60 * task.minutes, 0
    afterwards = len(task.conditions) * task.episodes
    return {
        "compile": len({part.train.seeds for part in parts}) * compiled,
        "epochs": len(parts) * epochs,
        "evaluations": task.train.seeds * episode * (while_training + afterwards),
    }
