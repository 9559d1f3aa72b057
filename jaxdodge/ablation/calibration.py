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

    from jaxdodge.ablation.compute import clean_up
    from jaxdodge.agents.config import rows_needed
    from jaxdodge.agents.evaluation import evaluate
    from jaxdodge.agents.memory import TooLargeError
    from jaxdodge.agents.programs import shared_program
    from jaxdodge.agents.training import Training

    def seconds(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
        began = time.perf_counter()
        result = jax.block_until_ready(function(*arguments))
        return time.perf_counter() - began, result

    clean_up(program_of(task))
    began = time.perf_counter()
    try:
        training = Training(task.game, task.train)
    except TooLargeError:
        if task.train.seeds == 1:
            raise
        half = estimate(task.of_seeds(task.train.seed, -(-task.train.seeds // 2)))
        programs = -(-task.train.seeds // half["seeds_per_program"])
        return half | {"epochs": programs * half["epochs"], "evaluations": programs * half["evaluations"]}
    training.start()
    compiled = time.perf_counter() - began
    program = shared_program(task.game, task.train, training.steps_per_epoch)
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
    while_training = max(training.total // task.train.eval_freq, 1) * task.train.seeds
    afterwards = len(task.conditions) * task.train.seeds * task.episodes / count
    return {
        "memory_bytes": training.memory.total,
        "seeds_per_program": task.train.seeds,
        # Evaluations are compiled twice: while training, and for all conditions.
        "compile": compiled + 2 * (first - evaluation),
        "epochs": epochs if task.minutes is None else min(epochs, 60 * task.minutes),
        "evaluations": whole * (while_training + afterwards),
    }
