"""Training and evaluating a cell, in the process that has JAX."""

import base64
import contextlib
import ctypes
import dataclasses
import functools
import io
import json
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.ablation.cells import Task, configuration, program_of
from jaxdodge.agents.checkpoints import Checkpoints
from jaxdodge.agents.config import TrainConfig
from jaxdodge.agents.evaluation import Episodes, evaluate
from jaxdodge.agents.memory import TooLargeError
from jaxdodge.agents.programs import forget_programs, shared_program
from jaxdodge.agents.runs import Run
from jaxdodge.agents.training import Training, steps_of_an_epoch
from jaxdodge.config import TRACED_FIELDS, GameConfig
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import game_params

BUDGET_SPENT = "budget spent"
# Seconds of the game after which a sample frame is taken: projectiles are in the arena.
SAMPLE_SECONDS = 2.0
# Of the latest task, see `program_of`.
_program = ""

Tell = Callable[[dict[str, Any]], None]


class _Progress:
    """In place of `TrainingProgress`: tells `done` (0 to 1), `left` (seconds) and `score`."""

    def __init__(
        self, tell: Tell, minutes: float | None, total: int, done: int, seconds: Callable[[], float]
    ):
        self._tell, self._minutes, self._seconds = tell, minutes, seconds
        self._total, self._steps = total, done

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def say(self, line: str) -> None:
        print(line, flush=True)

    def advance(self, steps: int, rates: dict[str, float]) -> None:
        self._steps += steps
        done = self._steps / self._total
        left = (self._total - self._steps) / max(rates["steps_per_second"], 1e-9)
        if self._minutes is not None:
            left = min(left, 60 * self._minutes - self._seconds())
            done = max(done, self._seconds() / (60 * self._minutes))
        self._tell({"done": min(done, 1.0), "left": max(left, 0.0)})

    def evaluation(self, evaluations: list[dict[str, float]], rates: dict[str, float]) -> None:
        self._tell({"score": float(np.mean([one["mean"] for one in evaluations]))})


def compute(
    task: Task, tell: Tell = lambda _: None, interrupted: Callable[[], str | None] = lambda: None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train the seeds of a task and play its evaluations.

    A run that is there already goes on, or is only evaluated. Seeds that do not fit into memory together are
    trained half by half.

    Args:
        task: of a cell.
        tell: called with news of the progress.
        interrupted: asked after every epoch for a reason to stop; then nothing more is yielded.

    Yields:
        A name for the result's file, and the result.

    Raises:
        ConfigError: the configuration is refused, or one seed alone does not fit.
        DivergedError: a quantity is no longer finite.
    """
    clean_up(program_of(task))
    run = Run(task.folder / task.name)
    try:
        summary = _summary(run) or _train(task, run, tell, interrupted)
    except TooLargeError:
        first, count = task.train.seed, task.train.seeds
        if count == 1:
            raise
        half = -(-count // 2)
        for part in (task.of_seeds(first, half), task.of_seeds(first + half, count - half)):
            yield from compute(part, tell, interrupted)
        return
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
                "memory_bytes": _peak(),
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


def _train(task: Task, run: Run, tell: Tell, interrupted: Callable[[], str | None]) -> dict[str, Any] | None:
    """Train to the end of the budget; None if it was interrupted."""
    training = Training(task.game, task.train)
    if Checkpoints(run.checkpoints).steps():
        training.resume(run)
    else:
        training.start()
        run.prepare(task.game, task.train)

    def stop() -> str | None:
        spent = task.minutes is not None and training.seconds >= 60 * task.minutes
        return interrupted() or (BUDGET_SPENT if spent else None)

    training.learn(run, stop, partial(_Progress, tell, task.minutes))
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


def sample_frame(game: GameConfig) -> str | None:
    """What a policy sees of a fixed scene: a PNG in base64, or None for vectors."""
    if game.observation_mode != "topdown":
        return None
    from matplotlib.image import imsave

    # The scene is to be the same whatever the timing, so that pictures can be compared.
    scene = dataclasses.replace(
        game, frames_per_step=1, response_frame=1, frame_stack=1, observe_previous_action=False
    )
    env = DodgeEnv(scene)
    params = env.default_params
    _, state = env.reset(jax.random.key(0), params)
    still = jnp.zeros(env.num_actions)

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
        key, state = carry
        key, key_step = jax.random.split(key)
        return (key, env.step_env(key_step, state, still, params)[1]), None

    frames = round(SAMPLE_SECONDS * scene.fps)
    (_, state), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, frames))((jax.random.key(1), state))
    image = np.asarray(env.observe(None, state, None, params))
    file = io.BytesIO()
    imsave(file, np.broadcast_to(image, (*image.shape[:2], 3)), format="png")
    return base64.b64encode(file.getvalue()).decode()


def clean_up(program: str) -> None:
    """Drop what only other programs need, and let the peak of the process's memory begin anew (on Linux).

    Without that, the memory of a cell would be told, and refused, with that of all before it.
    """
    global _program
    if program != _program:
        _program = program
        forget_programs()
        with contextlib.suppress(OSError, AttributeError):  # not Linux, or not with its usual library
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Bytes: the largest memory in use since `clean_up`, of the device or else of the process."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return int(statistics["peak_bytes_in_use"])
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
