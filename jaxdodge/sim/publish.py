"""`publish_state`: what clients read. Source: the specification, "Observations" and "One frame"."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdodge.config import step_limit_reached
from jaxdodge.exact import divide, product
from jaxdodge.render.topdown import Scene
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.state import State, Vector
from jaxdodge.sim.systems import nearest_distance

OBSERVED_PROJECTILES = 10
STANDARD_SIZE = 5 + 6 * OBSERVED_PROJECTILES
WITH_THROWER_SIZE = STANDARD_SIZE + 4
OBSERVATION_SIZES = {"standard": STANDARD_SIZE, "with_thrower": WITH_THROWER_SIZE, "topdown": 0}
"""Numbers of a vector by observation mode, in the order of `OBSERVATION_MODES.names`."""
SERVER_BOUND = 100.0
"""The space of vectors is Box(-100, 100), as the server states it."""


class Published(struct.PyTreeNode):
    """One publication of the game.

    reward float32, terminated and truncated bool, episode_steps and projectile_count int32.
    """

    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    episode_steps: jax.Array
    projectile_count: jax.Array


def publish_state(state: State, params: GameParams) -> Published:
    """Reward, flags and counts of the current frame."""
    return Published(
        reward=_reward(state, params),
        terminated=state.game_over,
        truncated=is_truncated(state, params),
        episode_steps=state.episode_steps,
        projectile_count=state.projectiles.count,
    )


def is_truncated(state: State, params: GameParams) -> jax.Array:
    """bool: the episode has reached its step limit."""
    return step_limit_reached(state.episode_steps, params.max_steps_in_episode)


def publish(state: State, params: GameParams) -> dict:
    """Everything that `publish_state` publishes in any mode, by the names of the recordings."""
    published = publish_state(state, params)
    size = jnp.asarray([*OBSERVATION_SIZES.values()], jnp.int32)[params.observation_mode]
    observation = observe_vector(state, params, with_thrower=True)
    return {
        "published_observation_size": size,
        "published_observation": jnp.where(
            jnp.arange(WITH_THROWER_SIZE, dtype=jnp.int32) < size, observation, 0
        ),
        "published_reward": published.reward,
        "published_done": published.terminated,
        "published_truncated": published.truncated,
        "published_episode_steps": published.episode_steps,
        "published_projectile_count": published.projectile_count,
        "scene": scene(state),
    }


def _reward(state: State, params: GameParams) -> jax.Array:
    """All projectiles count here, not only the observed ones."""
    distance = nearest_distance(state)
    bonus = product(params.dodge_bonus_threshold - distance, params.dodge_bonus_multiplier)
    near = distance < params.dodge_bonus_threshold
    alive = jnp.where(near, params.survival_reward + bonus, params.survival_reward)
    return jnp.where(state.game_over, params.collision_penalty, alive)


def observe_vector(state: State, params: GameParams, with_thrower: bool) -> jax.Array:
    """The observation of the modes standard, float32 (65,), and with_thrower, float32 (69,)."""
    player, projectiles = state.player, state.projectiles
    rows = [*_components(projectiles.position), *_components(projectiles.velocity)]
    slots = min(OBSERVED_PROJECTILES, len(rows[0]))
    seen = jnp.stack([row[:slots] for row in rows], axis=-1)
    seen = jnp.where((jnp.arange(slots, dtype=jnp.int32) < projectiles.count)[:, None], seen, 0)
    seen = jnp.pad(seen, ((0, OBSERVED_PROJECTILES - slots), (0, 0)))
    own = jnp.stack([*_components(player.position), player.velocity.x, player.velocity.y])
    parts = [own, seen.reshape(-1)]
    if with_thrower:
        parts.append(_first_indicator(state, params))
    return jnp.concatenate(parts)


def observed_projectiles(observation: Any) -> Any:
    """Position and velocity of the projectiles in observations, zeros where there are fewer.

    Args:
        observation: of the modes standard or with_thrower, (..., 65 or 69), of JAX or NumPy.

    Returns:
        (..., 10, 6).
    """
    numbers = observation[..., 5:STANDARD_SIZE]
    return numbers.reshape(*numbers.shape[:-1], OBSERVED_PROJECTILES, 6)


def _components(vector: Vector) -> tuple[jax.Array, jax.Array, jax.Array]:
    return vector.x, vector.y, vector.z


def _first_indicator(state: State, params: GameParams) -> jax.Array:
    """Position of the first pending indicator, and its remaining share of the delay."""
    throwers = state.throwers
    first = jax.tree.map(lambda array: array[0], throwers.replace(count=throwers.count[None]))
    remaining = first.duration.minus(first.elapsed).as_seconds()
    share = jnp.clip(divide(remaining, params.thrower_delay_seconds), 0, 1)
    return jnp.where(throwers.count > 0, jnp.stack([*_components(first.position), share]), 0)


def scene(state: State) -> Scene:
    """What the image of the mode topdown shows."""
    player, projectiles, throwers = state.player.position, state.projectiles.position, state.throwers
    return Scene(
        player=jnp.stack([player.x, player.y]),
        projectiles=jnp.stack([projectiles.x, projectiles.y]),
        projectile_count=state.projectiles.count,
        thrower=jnp.stack([throwers.position.x[0], throwers.position.y[0]]),
        thrower_pending=throwers.count > 0,
    )
