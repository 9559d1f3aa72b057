"""Other numbers for every episode, so that an agent does not learn one rhythm by heart.

A server's frames are never equally long, and how many pass per step depends on the client. An agent that has
met one rhythm only plays it, and no other.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.agents.train_config import Jitter
from jaxdodge.config import GameConfig
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import DEGREES_TO_RADIANS, GameParams
from jaxdodge.sim.stepping import scaled

SHORTEST_FRAME, LONGEST_FRAME = 1_000_000, 250_000_000
WIDEST_ANGLE = np.float32(180) * DEGREES_TO_RADIANS


def randomized_env(config: GameConfig, jitter: Jitter) -> DodgeEnv:
    """The environment for everything that `draw_params` draws around a configuration.

    It has slots for the shortest interval and the widest angle. Its default parameters are those of the
    configuration.
    """
    shortest_interval = config.projectile_spawn_interval * (1 - jitter.spawn_interval_jitter)
    # `configure` derives the slots anew.
    extreme = config.configure(
        projectile_spawn_interval=max(shortest_interval, 1e-9),
        spawn_angle_degrees=min(180, config.spawn_angle_degrees * (1 + jitter.spawn_angle_jitter)),
        # Where the interval is shorter than a frame, there is a throw in every frame.
        fps=min(1000, config.fps / (1 - jitter.frame_time_jitter)),
    )
    more = extreme.projectile_slots - config.configure().projectile_slots
    return DodgeEnv(
        dataclasses.replace(config, projectile_slots=config.projectile_slots + more),
        most_frames_per_step(config, jitter),
        extreme.thrower_slots,
    )


def most_frames_per_step(config: GameConfig, jitter: Jitter) -> int | None:
    """The longest step that is drawn, in frames; None if the timing is the configuration's."""
    if jitter.frames_per_step_jitter == jitter.response_frame_jitter == 0:
        return None
    return config.frames_per_step + jitter.frames_per_step_jitter


def draw_params(key: jax.Array, params: GameParams, jitter: Jitter) -> GameParams:
    """The numbers of one episode of one arena.

    What has no jitter stays as it is, bit for bit. A `response_frame` that is the last frame of a step stays
    the last, before its own jitter.

    Args:
        key: random key.
        params: of the configuration, scalars.
        jitter: static.
    """
    frame_time, frames, response, interval, angle, episode = draw_uniform(key, 6)
    drawn: dict[str, Any] = {}
    if jitter.frame_time_jitter:
        nanoseconds = params.frame_nanoseconds * _factor(frame_time, jitter.frame_time_jitter)
        nanoseconds = jnp.clip(jnp.rint(nanoseconds).astype(jnp.int32), SHORTEST_FRAME, LONGEST_FRAME)
        drawn["frame_nanoseconds"] = nanoseconds
        drawn["frame_seconds"] = Duration(jnp.int32(0), nanoseconds).as_seconds()
    if jitter.frames_per_step_jitter or jitter.response_frame_jitter:
        count = jnp.maximum(params.frames_per_step + _whole(frames, jitter.frames_per_step_jitter), 1)
        last = params.response_frame == params.frames_per_step
        middle = jnp.where(last, count, params.response_frame)
        drawn["frames_per_step"] = count
        drawn["response_frame"] = jnp.clip(middle + _whole(response, jitter.response_frame_jitter), 0, count)
    if jitter.spawn_interval_jitter:
        other = scaled(params.spawn_interval, _factor(interval, jitter.spawn_interval_jitter))
        none = (other.seconds == 0) & (other.nanoseconds == 0)
        drawn["spawn_interval"] = other.replace(nanoseconds=jnp.where(none, 1, other.nanoseconds))
    if jitter.spawn_angle_jitter:
        wider = params.spawn_angle * _factor(angle, jitter.spawn_angle_jitter)
        drawn["spawn_angle"] = jnp.minimum(wider, WIDEST_ANGLE)
    if jitter.shortest_episode < 1:
        # An episode's chance is inverse to its square, so what is played of each length is inverse to it.
        share = 1 / (1 + episode * (1 / jitter.shortest_episode - 1))
        drawn["max_episode_steps"] = jnp.ceil(share * params.max_episode_steps).astype(jnp.int32)
    return params.replace(**drawn)


def _factor(draw: jax.Array, jitter: float) -> jax.Array:
    """From a uniform draw in [0, 1): uniform in [1 - jitter, 1 + jitter), float32."""
    return 1 + (2 * draw - 1) * jitter


def _whole(draw: jax.Array, jitter: int) -> jax.Array:
    """From a uniform draw in [0, 1): one of the whole numbers from -jitter to jitter, int32."""
    return jnp.floor(draw * (2 * jitter + 1)).astype(jnp.int32) - jitter
