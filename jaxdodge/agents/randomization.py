"""Domain randomization: other parameters for every episode, against overfitting one rhythm.

The frames of a server are never equally long, and how many pass per step depends on the client. An
agent trained at one rhythm plays badly at any other.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.agents.train_config import DomainRandomization
from jaxdodge.config import GameConfig
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import DEGREES_TO_RADIANS, GameParams
from jaxdodge.sim.stepping import scaled

SHORTEST_FRAME, LONGEST_FRAME = 1_000_000, 250_000_000
WIDEST_ANGLE = np.float32(180) * DEGREES_TO_RADIANS


def randomized_env(
    config: GameConfig,
    randomization: DomainRandomization,
    env_class: Callable[..., DodgeEnv] = DodgeEnv,
) -> DodgeEnv:
    """The environment for all parameters that `draw_params` draws around a configuration.

    It has slots for the shortest interval and the widest angle. Its default parameters are those of
    the configuration.
    """
    shortest_interval = config.projectile_spawn_interval * (1 - randomization.spawn_interval_jitter)
    # `configure` derives the slots anew.
    extreme = config.configure(
        projectile_spawn_interval=max(shortest_interval, 1e-9),
        spawn_angle_degrees=min(180, config.spawn_angle_degrees * (1 + randomization.spawn_angle_jitter)),
        # An interval shorter than a frame means a throw in every frame.
        fps=min(1000, config.fps / (1 - randomization.frame_time_jitter)),
    )
    more = extreme.projectile_slots - config.configure().projectile_slots
    arguments = (
        dataclasses.replace(config, projectile_slots=config.projectile_slots + more),
        most_frames_per_step(config, randomization),
        extreme.thrower_slots,
    )
    return env_class(*arguments)


def most_frames_per_step(config: GameConfig, randomization: DomainRandomization) -> int | None:
    """The longest drawn step, in frames; None if the timing is that of the configuration."""
    if randomization.frames_per_step_jitter == randomization.response_frame_jitter == 0:
        return None
    return config.frames_per_step + randomization.frames_per_step_jitter


def draw_params(key: jax.Array, params: GameParams, randomization: DomainRandomization) -> GameParams:
    """Draw the parameters of one episode of one environment.

    What is not randomized keeps its bits. A `response_frame` that is the last frame of a step stays
    the last, before its own jitter.

    Args:
        key: random key.
        params: of the configuration, scalars.
        randomization: static.
    """
    frame_time, frames, response, interval, angle, episode = draw_uniform(key, 6)
    drawn: dict[str, Any] = {}
    if randomization.frame_time_jitter:
        nanoseconds = params.frame_nanoseconds * _factor(frame_time, randomization.frame_time_jitter)
        nanoseconds = jnp.clip(jnp.rint(nanoseconds).astype(jnp.int32), SHORTEST_FRAME, LONGEST_FRAME)
        drawn["frame_nanoseconds"] = nanoseconds
        drawn["frame_seconds"] = Duration(jnp.int32(0), nanoseconds).as_seconds()
    if randomization.frames_per_step_jitter or randomization.response_frame_jitter:
        count = jnp.maximum(params.frames_per_step + _whole(frames, randomization.frames_per_step_jitter), 1)
        last = params.response_frame == params.frames_per_step
        middle = jnp.where(last, count, params.response_frame)
        drawn["frames_per_step"] = count
        moved = middle + _whole(response, randomization.response_frame_jitter)
        drawn["response_frame"] = jnp.clip(moved, 0, count)
    if randomization.spawn_interval_jitter:
        other = scaled(params.spawn_interval, _factor(interval, randomization.spawn_interval_jitter))
        none = (other.seconds == 0) & (other.nanoseconds == 0)
        drawn["spawn_interval"] = other.replace(nanoseconds=jnp.where(none, 1, other.nanoseconds))
    if randomization.spawn_angle_jitter:
        wider = params.spawn_angle * _factor(angle, randomization.spawn_angle_jitter)
        drawn["spawn_angle"] = jnp.minimum(wider, WIDEST_ANGLE)
    if randomization.shortest_episode < 1:
        # The density of a length is proportional to 1 / length^2, of the time played to 1 / length.
        share = 1 / (1 + episode * (1 / randomization.shortest_episode - 1))
        drawn["max_steps_in_episode"] = jnp.ceil(share * params.max_steps_in_episode).astype(jnp.int32)
    return params.replace(**drawn)


def _factor(draw: jax.Array, jitter: float) -> jax.Array:
    """From a uniform draw in [0, 1): uniform in [1 - jitter, 1 + jitter), float32."""
    return 1 + (2 * draw - 1) * jitter


def _whole(draw: jax.Array, jitter: int) -> jax.Array:
    """From a uniform draw in [0, 1): an integer from -jitter to jitter, int32."""
    return jnp.floor(draw * (2 * jitter + 1)).astype(jnp.int32) - jitter
