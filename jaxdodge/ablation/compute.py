"""Training and evaluating a cell, in the process that has JAX."""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.ablation.cells import Task, configuration, program_of, training_key
from jaxdodge.ablation.peak import clean_up, peak
from jaxdodge.ablation.sample import sample_frame
from jaxdodge.agents.programs import shared_program
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import TRACED_FIELDS, GameConfig
from jaxdodge.evaluation.episodes import Episodes, evaluate
from jaxdodge.fields import ConfigError
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.folder import Run
from jaxdodge.runs.loop import Training, steps_of_an_epoch
from jaxdodge.runs.memory import TooLargeError
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import game_params

BUDGET_SPENT = "budget spent"

Tell = Callable[[dict[str, Any]], None]


class Progress:
    """In place of `TrainingProgress`: tells `done` (0 to 1), `left` (seconds) and `score`.

    A budget's minutes begin when the first epoch has ended. By then everything is compiled; of cells that
    share a program, only the first has to wait for that.

    Args:
        tell: called with news.
        minutes: of the budget, if it has any.
        before: seconds of a run that goes on.
    """

    def __init__(self, tell: Tell, minutes: float | None, before: float = 0.0):
        self._tell, self._minutes, self._before = tell, minutes, before
        self._began: float | None = None

    def begin(self, total: int, done: int, seconds: Callable[[], float]) -> "Progress":
        """Itself, for a training of so many environment steps, some of them done, and its clock."""
        self._total, self._steps, self._seconds = total, done, seconds
        return self

    @property
    def spent(self) -> float:
        """Share of the minutes; 0 without a budget of them."""
        if self._minutes is None or self._began is None:
            return 0.0
        return (self._before + self._seconds() - self._began) / (60 * self._minutes)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def say(self, line: str) -> None:
        print(line, flush=True)

    def advance(self, steps: int, rates: dict[str, float]) -> None:
        self._steps += steps
        self._began = self._seconds() if self._began is None else self._began
        done = self._steps / self._total
        left = (self._total - self._steps) / max(rates["steps_per_second"], 1e-9)
        if self._minutes is not None:
            left = min(left, 60 * self._minutes * (1 - self.spent))
            done = max(done, self.spent)
        self._tell({"done": min(done, 1.0), "left": max(left, 0.0)})

    def evaluation(self, evaluations: list[dict[str, float]], rates: dict[str, float]) -> None:
        self._tell({"score": float(np.mean([one["mean"] for one in evaluations]))})


def compute(
    task: Task, tell: Tell = lambda _: None, interrupted: Callable[[], str | None] = lambda: None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train the seeds of a task and play its evaluations.

    A run that is there already goes on, or is only evaluated. Seeds that do not fit into memory together are
    trained one part after another, see `fitting`.

    Args:
        task: of a cell.
        tell: called with news of the progress.
        interrupted: asked after every epoch for a reason to stop; then nothing more is yielded.

    Yields:
        A name for the result's file, and the result.

    Raises:
        ConfigError: the configuration is refused, one seed alone does not fit, or the code here is not that
            which the task has its key from.
        DivergedError: a quantity is no longer finite.
    """
    if training_key(task.game, task.train, task.minutes) != task.key:
        raise ConfigError("the code here is another than the study's; start the study anew")
    clean_up(program_of(task))
    run = Run(task.folder / task.name)
    summary = _summary(run)
    if summary is None:
        training, parts = fitting(task)
        if len(parts) > 1:
            for part in parts:
                yield from compute(part, tell, interrupted)
                if interrupted():
                    return
            return
        summary = _train(task, run, training, tell, interrupted)
    if summary is None:
        return
    trained = time.perf_counter()
    evaluations = _evaluate(task, run)
    updates = round(summary["updates"] / task.train.seeds)
    yield (
        task.name,
        {
            "key": task.key,
            "seeds": list(range(task.train.seed, task.train.seed + task.train.seeds)),
            "configuration": configuration(task.game, task.train),
            "evaluations": evaluations,
            "curves": [_curve(part) for part in run.parts(task.train)],
            "sample_frame": sample_frame(task.game),
            "cost": {
                "training_seconds": summary["wall_seconds"],
                "evaluation_seconds": time.perf_counter() - trained,
                "memory_bytes": peak(),
                "environment_steps": summary["timesteps"] * task.train.seeds,
                "updates": updates * task.train.seeds,
                "game_frames": summary["timesteps"] * task.train.seeds * task.game.frames_per_step,
                "images_drawn": task.train.seeds
                * images_drawn(task.game, task.train, summary["timesteps"], updates),
            },
            "hardware": summary["hardware"],
        },
    )


def _summary(run: Run) -> dict[str, Any] | None:
    """What a finished training says of itself; None if there is none."""
    try:
        summary = json.loads((run.folder / "summary.json").read_text())
    except (OSError, ValueError):
        return None
    return summary if summary["stopped"] in (None, BUDGET_SPENT) else None


def fitting(task: Task) -> tuple[Training, list[Task]]:
    """The training of the first part, and all parts: the fewest of which each fits into memory.

    Raises:
        TooLargeError: one seed alone does not fit.
    """
    count = 1
    while True:
        parts = task.in_parts(count)
        largest = parts[0]
        clean_up(program_of(largest))
        try:
            return Training(largest.game, largest.train), parts
        except TooLargeError:
            if largest.train.seeds == 1:
                raise
        count += 1


def _train(
    task: Task, run: Run, training: Training, tell: Tell, interrupted: Callable[[], str | None]
) -> dict[str, Any] | None:
    """Train to the end of the budget; None if it was interrupted."""
    # What the processes before took to compile is in there, because nobody has noted that.
    before = 0.0
    if Checkpoints(run.checkpoints).steps():
        own = training.seconds
        training.resume(run)
        before = training.seconds - own
    else:
        training.start()
        run.prepare(task.game, task.train)
    if task.minutes is not None:
        # So that this is compiled before the minutes begin.
        policy, count = training.best_policies[0], task.train.n_eval_episodes
        evaluate(training.sac.env, training.sac.policy, policy, training.params, jax.random.key(0), count)
    progress = Progress(tell, task.minutes, before)

    def stop() -> str | None:
        return interrupted() or (BUDGET_SPENT if progress.spent >= 1 else None)

    training.learn(run, stop, progress.begin)
    summary = _summary(run)
    if summary is not None:
        # The policies stay, for evaluations that are added later; what only resuming needs is large.
        Checkpoints(run.checkpoints).delete()
    return summary


def _curve(run: Run) -> list[dict[str, float]]:
    """The evaluations while training."""
    lines = (run.folder / "logs" / "metrics.jsonl").read_text().splitlines()
    names = {"timesteps": "timesteps", "seconds": "seconds"}
    names |= {"return": "evaluation/mean", "survival": "evaluation/survival"}
    return [{name: line[key] for name, key in names.items()} for line in map(json.loads, lines)]


def _evaluate(task: Task, run: Run) -> dict[str, list[dict[str, float]]]:
    """By condition, figures of the episodes of each seed's final policy.

    All policies play all conditions at once, each seed in all of them against the same draws.
    """
    # That of the training, so that tasks which share its program share that of the evaluation.
    sac = shared_program(task.game, task.train, steps_of_an_epoch(task.train)).sac
    parts = run.parts(task.train)
    policies = [part.load_policy("final", sac.policy_shapes()) for part in parts]
    weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)
    seeds = range(task.train.seed, task.train.seed + task.train.seeds)
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    found = {}
    for names, games in _alike(task.conditions):
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(game_params, games))
        played = _play(_common_env(games), sac.policy, weights, params, keys, task.episodes)
        for column, name in enumerate(names):
            each = [jax.tree.map(lambda leaf: leaf[row, column], played) for row in range(len(seeds))]  # noqa: B023
            found[name] = [episodes.summary() for episodes in each]
    return found


@partial(jax.jit, static_argnames=("env", "policy", "episodes"))
def _play(env: Any, policy: Any, weights: Any, params: Any, keys: jax.Array, episodes: int) -> Episodes:
    """Leading axes (policies, conditions, episodes)."""

    def one(weights: Any, params: Any, key: jax.Array) -> Episodes:
        return evaluate(env, policy, weights, params, key, episodes)

    return jax.vmap(jax.vmap(one, (None, 0, None)), (0, None, 0))(weights, params, keys)


def _alike(conditions: dict[str, GameConfig]) -> Iterator[tuple[list[str], list[GameConfig]]]:
    """Conditions that one program can play: of one level."""
    for level in sorted({game.level for game in conditions.values()}):
        names = [name for name, game in conditions.items() if game.level == level]
        yield names, [conditions[name] for name in names]


def _common_env(games: list[GameConfig]) -> DodgeEnv:
    """An environment for all of these games, told apart by their `GameParams`."""
    timings = {(game.frames_per_step, game.response_frame) for game in games}
    slots = max(game.projectile_slots for game in games)
    traced = {name: getattr(GameConfig(), name) for name in TRACED_FIELDS}
    return _env(
        dataclasses.replace(games[0], projectile_slots=slots, **traced),
        max(game.frames_per_step for game in games) if len(timings) > 1 else None,
        max(game.thrower_slots for game in games),
    )


# The same one again, because what is compiled belongs to it.
_env = functools.cache(DodgeEnv)


def images_drawn(game: GameConfig, train: TrainConfig, timesteps: int, updates: int) -> int:
    """Images that one seed's training draws: to act on, and of both ends of each sampled transition."""
    if game.observation_mode != "topdown":
        return 0
    return game.frame_stack * (timesteps + 2 * updates * train.batch_size)
