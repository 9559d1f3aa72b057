"""Features of an observation, without parameters: what the networks observe.

Projectiles fly by known rules, which the networks therefore need not learn: the features say when
each will be nearest to the player, and how far it will pass. The index of a projectile in the
game's table means nothing, so the features are of the next few to come, in the order of coming.
"""

import jax
import jax.numpy as jnp

from jaxdodge.config import GameConfig
from jaxdodge.sim.actions import COMPONENTS
from jaxdodge.sim.publish import STANDARD_SIZE, WITH_THROWER_SIZE, observed_projectiles
from jaxdodge.sim.systems import (
    PLAY_ZONE_X,
    PLAY_ZONE_Y,
    PROJECTILE_GRAVITY,
    PROJECTILE_RADIUS,
    RESTITUTION,
)

NUM_PROJECTILES = 4
# A projectile is dropped this long after it was nearest, s.
PASSED_SECONDS = 0.15
# And if it passes further away, m. Beyond 45 degrees some come to rest 25 m away, and stay there.
FARTHEST_PASS = 12.0
# Typical magnitudes, so that features are about 1 (m, m/s, s).
PLAYER_SCALE = 5.0
DISTANCE_SCALE = 10.0
SPEED_SCALE = 10.0
MISS_SCALE, FARTHEST_MISS = 1.5, 4.0
# A wall further away does not matter, m.
FARTHEST_WALL = 2.0
TIME_SCALE, LONGEST_TIME = 0.4, 2.0


def vector_features(observation: jax.Array, config: GameConfig) -> jax.Array:
    """Features of a vector observation.

    They are relative to where the player will be when the next action is applied. Until then the
    previous action continues, which is known.

    Args:
        observation: float32 (..., n), as `DodgeEnv` gives it: frame_stack frames, then the
            previous action if `observe_previous_action`.
        config: of the game.

    Returns:
        float32 (..., features).
    """
    frame_size = WITH_THROWER_SIZE if config.observation_mode == "with_thrower" else STANDARD_SIZE
    stacked = config.frame_stack * frame_size
    frames, previous_action = observation[..., :stacked], observation[..., stacked:]
    frames = frames.reshape(*observation.shape[:-1], config.frame_stack, frame_size)
    velocity = frames[..., 3:5]
    if config.observe_previous_action:
        velocity = velocity.at[..., -1, :].set(_commanded_velocity(previous_action, config))
    lag = (config.frames_per_step - config.response_frame) / config.fps
    edge = jnp.array([PLAY_ZONE_X, PLAY_ZONE_Y], jnp.float32)
    ground = jnp.clip(frames[..., :2] + velocity * lag, -edge, edge)
    position = jnp.concatenate([ground, frames[..., 2:3]], axis=-1)

    fastest = config.player_speed * (1 + config.sprint_multiplier)
    # A wall closes some ways out. The coordinates alone are too weak a signal for that.
    room = jnp.minimum(jnp.concatenate([edge - ground, edge + ground], axis=-1) / FARTHEST_WALL, 1)
    parts = [ground / PLAYER_SCALE, position[..., 2:] - 1, velocity / fastest, room]
    parts.append(_projectile_features(observed_projectiles(frames), position, lag))
    thrower = frames[..., STANDARD_SIZE:]
    if thrower.shape[-1]:
        pending = (thrower[..., :2] != 0).any(axis=-1, keepdims=True)
        relative = jnp.where(pending, thrower[..., :3] - position, 0) / DISTANCE_SCALE
        parts += [relative, thrower[..., 3:], pending.astype(jnp.float32)]
    features = jnp.concatenate(parts, axis=-1)
    return jnp.concatenate([features.reshape(*observation.shape[:-1], -1), previous_action], axis=-1)


def _commanded_velocity(action: jax.Array, config: GameConfig) -> jax.Array:
    """Horizontal velocity that a continuous action commands, (..., components) -> (..., 2)."""
    sprint = (action[..., COMPONENTS[config.action_space_type].index("sprint")] + 1) / 2
    return action[..., :2] * (config.player_speed * (1 + sprint * config.sprint_multiplier))[..., None]


def _projectile_features(projectiles: jax.Array, player: jax.Array, lag: float) -> jax.Array:
    """Projectiles (..., slots, 6), player (..., 3), seconds -> (..., n); the next one first."""
    in_use = (projectiles != 0).any(axis=-1)
    height, velocity, climb = projectiles[..., 2:3], projectiles[..., 3:5], projectiles[..., 5:]
    relative = projectiles[..., :2] + velocity * lag - player[..., None, :2]
    # The 1 keeps the time of slow projectiles finite.
    time = -(relative * velocity).sum(axis=-1, keepdims=True) / ((velocity**2).sum(-1, keepdims=True) + 1)
    miss = relative + velocity * time
    miss_height = _height_after(height, climb, time + lag) - player[..., None, 2:]
    features = jnp.concatenate(
        [
            relative / DISTANCE_SCALE,
            height - player[..., None, 2:],
            velocity / SPEED_SCALE,
            climb / SPEED_SCALE,
            jnp.clip(time, -1, LONGEST_TIME) / TIME_SCALE,
            jnp.clip(miss, -FARTHEST_MISS, FARTHEST_MISS) / MISS_SCALE,
            miss_height,
            jnp.ones_like(time),
        ],
        axis=-1,
    )
    near = (miss**2).sum(axis=-1) < FARTHEST_PASS**2
    comes = in_use & near & (time[..., 0] > -PASSED_SECONDS)
    features = jnp.where(comes[..., None], features, 0)
    features = _first(jnp.where(comes, time[..., 0], jnp.inf), features, NUM_PROJECTILES)
    return features.reshape(*features.shape[:-2], -1)


def _first(order: jax.Array, rows: jax.Array, count: int) -> jax.Array:
    """The rows of least order, (..., n) and (..., n, m) -> (..., count, m); ties keep their order.

    The rank of each row is counted: for so few rows that is several times faster than sorting.
    """
    numbers = jnp.arange(order.shape[-1], dtype=jnp.int32)
    one, other = order[..., :, None], order[..., None, :]
    before = (other < one) | ((other == one) & (numbers < numbers[:, None]))
    chosen = before.sum(axis=-1, dtype=jnp.int32)[..., None, :] == jnp.arange(count, dtype=jnp.int32)[:, None]
    return jnp.where(chosen[..., None], rows[..., None, :, :], 0).sum(axis=-2)


def _height_after(height: jax.Array, climb: jax.Array, time: jax.Array) -> jax.Array:
    """Height of a projectile after a time, with at most one bounce; m, m/s, s."""
    time = jnp.clip(time, 0, LONGEST_TIME)
    fall = jnp.maximum(climb**2 + 2 * PROJECTILE_GRAVITY * (height - PROJECTILE_RADIUS), 0)
    bounce = (climb + jnp.sqrt(fall)) / PROJECTILE_GRAVITY
    after = time - bounce
    climb_after = RESTITUTION * (PROJECTILE_GRAVITY * bounce - climb)
    flying = height + climb * time - PROJECTILE_GRAVITY / 2 * time**2
    bounced = PROJECTILE_RADIUS + climb_after * after - PROJECTILE_GRAVITY / 2 * after**2
    return jnp.where(after < 0, flying, jnp.maximum(bounced, PROJECTILE_RADIUS))
