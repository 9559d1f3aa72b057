"""The numbers of a game as traced arrays: `GameParams`, what the systems read besides the state."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdodge.config import OBSERVATION_MODES, GameConfig, nanoseconds
from jaxdodge.sim.duration import Duration

SPAWN_DISTANCE = np.float32(20.0)
WITH_THROWER = OBSERVATION_MODES.names.index("with_thrower")
DEGREES_TO_RADIANS = np.float32(np.pi / 180)


class GameParams(struct.PyTreeNode):
    """Numbers of a `GameConfig` as scalars, to be vmapped or swept without recompiling.

    float32 unless said otherwise; metres and seconds. Sweep by `params.replace(player_speed=...)`,
    or by stacking `game_params` of several configurations that agree in everything that is static
    (names, image size, slots, stack, timing).
    """

    player_speed: jax.Array
    sprint_multiplier: jax.Array
    spawn_angle: jax.Array
    """Half angle of the arc of throws, radians."""
    spawn_interval: Duration
    thrower_delay: Duration
    thrower_delay_seconds: jax.Array
    collision_penalty: jax.Array
    survival_reward: jax.Array
    dodge_bonus_threshold: jax.Array
    dodge_bonus_multiplier: jax.Array
    random_spawn_position: jax.Array
    """bool: throws come from an arc (level 2) or from a line (level 1)."""
    observation_mode: jax.Array
    """int32 index into `OBSERVATION_MODES.names`; decides which of the two spawners runs."""
    frame_nanoseconds: jax.Array
    """int32."""
    frame_seconds: jax.Array
    frames_per_step: jax.Array
    """int32; read only by an environment with `most_frames_per_step`."""
    response_frame: jax.Array
    """int32; likewise."""
    max_steps_in_episode: jax.Array
    """int32: `max_episode_steps` of the configuration, by the name that gymnax expects."""


def frame_seconds(frame_nanoseconds: int | np.ndarray) -> np.ndarray:
    """A frame's duration as the game's float32: seconds + nanoseconds / 1e9, both float32."""
    seconds, rest = np.divmod(np.asarray(frame_nanoseconds, np.int64), 1_000_000_000)
    return seconds.astype(np.float32) + rest.astype(np.float32) / np.float32(1e9)


def game_params(config: GameConfig) -> GameParams:
    """The traced numbers of a configuration."""
    return GameParams(
        player_speed=jnp.float32(config.player_speed),
        sprint_multiplier=jnp.float32(config.sprint_multiplier),
        spawn_angle=jnp.float32(np.float32(config.spawn_angle_degrees) * DEGREES_TO_RADIANS),
        spawn_interval=Duration.from_nanoseconds(nanoseconds(config.projectile_spawn_interval)),
        thrower_delay=Duration.from_nanoseconds(nanoseconds(config.thrower_delay_seconds)),
        thrower_delay_seconds=jnp.float32(config.thrower_delay_seconds),
        collision_penalty=jnp.float32(config.collision_penalty),
        survival_reward=jnp.float32(config.survival_reward),
        dodge_bonus_threshold=jnp.float32(config.dodge_bonus_threshold),
        dodge_bonus_multiplier=jnp.float32(config.dodge_bonus_multiplier),
        random_spawn_position=jnp.asarray(config.random_spawn_position),
        observation_mode=jnp.int32(OBSERVATION_MODES.names.index(config.observation_mode)),
        frame_nanoseconds=jnp.int32(config.frame_nanoseconds),
        frame_seconds=jnp.float32(frame_seconds(config.frame_nanoseconds)),
        frames_per_step=jnp.int32(config.frames_per_step),
        response_frame=jnp.int32(config.response_frame),
        max_steps_in_episode=jnp.int32(config.max_episode_steps),
    )
