"""Evaluates the policies of a cell in all conditions, and draws a sample of what they observe."""

import base64
import dataclasses
import functools
import io
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.ablation.tasks import Task
from jaxdodge.agents.program import shared_program
from jaxdodge.config import SAME_NUMBERS, GameConfig
from jaxdodge.evaluation.episodes import Episodes, evaluate
from jaxdodge.runs.epochs import steps_of_an_epoch
from jaxdodge.runs.folder import Run
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import game_params

# Game time of the sample frame, in seconds; by then projectiles are in the arena.
SAMPLE_SECONDS = 2.0


def evaluate_conditions(task: Task, run: Run) -> dict[str, list[dict[str, float]]]:
    """Statistics of each seed's final policy by condition key.

    All policies play all conditions in one batch. A seed uses the same random keys in each
    condition.
    """
    # The program of the training, so tasks that share it also share the compiled evaluation.
    trainer = shared_program(task.game, task.train, steps_of_an_epoch(task.game, task.train)).trainer
    policies = [part.load_policy("final", trainer.policy_shapes()) for part in run.seed_runs(task.train)]
    weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)
    keys = jnp.stack([jax.random.key(seed) for seed in task.seeds])
    found = {}
    for condition_keys, games in _by_level(task.conditions):
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(game_params, games))
        played = _play(_common_env(games), trainer.policy, weights, params, keys, task.episodes)
        for column, key in enumerate(condition_keys):
            each = [jax.tree.map(lambda leaf: leaf[row, column], played) for row in range(len(keys))]  # noqa: B023
            found[key] = [episodes.summary() for episodes in each]
    return found


@partial(jax.jit, static_argnames=("env", "policy", "episodes"))
def _play(env: Any, policy: Any, weights: Any, params: Any, keys: jax.Array, episodes: int) -> Episodes:
    """Leading axes (policies, conditions, episodes)."""

    def one(weights: Any, params: Any, key: jax.Array) -> Episodes:
        return evaluate(env, policy, weights, params, key, episodes)

    return jax.vmap(jax.vmap(one, (None, 0, None)), (0, None, 0))(weights, params, keys)


def _by_level(conditions: dict[str, GameConfig]) -> Iterator[tuple[list[str], list[GameConfig]]]:
    """Conditions grouped by level: one program can play the games of one level."""
    for level in sorted({game.level for game in conditions.values()}):
        keys = [key for key, game in conditions.items() if game.level == level]
        yield keys, [conditions[key] for key in keys]


def _common_env(games: list[GameConfig]) -> DodgeEnv:
    """An environment that can play all of these games, which differ in their `GameParams`."""
    timings = {(game.frames_per_step, game.response_frame) for game in games}
    slots = max(game.projectile_slots for game in games)
    return _env(
        dataclasses.replace(games[0], projectile_slots=slots, **SAME_NUMBERS),
        max(game.frames_per_step for game in games) if len(timings) > 1 else None,
        max(game.thrower_slots for game in games),
    )


# Cached, because JAX caches compiled programs by the identity of the environment.
_env = functools.cache(DodgeEnv)


def sample_frame(game: GameConfig) -> str | None:
    """The observation of a fixed scene: a PNG in base64, or None for vector observations."""
    if game.observation_mode != "topdown":
        return None
    from PIL import Image

    # The same scene at every timing, so that the pictures can be compared.
    scene = dataclasses.replace(
        game, frames_per_step=1, response_frame=1, frame_stack=1, observe_previous_action=False
    )
    env = DodgeEnv(scene)
    params = env.default_params
    _, state = env.reset(jax.random.key(0), params)
    no_action = jnp.zeros(env.num_actions)

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
        key, state = carry
        key, key_step = jax.random.split(key)
        return (key, env.step_env(key_step, state, no_action, params)[1]), None

    frames = round(SAMPLE_SECONDS * scene.fps)
    (_, state), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, frames))((jax.random.key(1), state))
    image = np.asarray(env.observe(None, state, None, params))
    file = io.BytesIO()
    Image.fromarray(np.repeat(image, 3 // image.shape[2], axis=2)).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()
