"""Episodes as on a server: one after another, at the timing that was measured there.

The spawn timer goes on from one episode to the next, so how one ends decides how the next begins.
Frame times, frames per step and response frame are those of the measured steps in their order, from
a random one on: neighbouring steps depend on one another. A server resets some frames after the
episode's last response, and says `done` as late after a hit as its order of systems makes it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdodge.evaluation.episodes import Episodes
from jaxdodge.recordings.timing_file import StepTimings
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import GameParams, frame_seconds
from jaxdodge.sim.state import select

Policy = Callable[[Any, Any, jax.Array, jax.Array], jax.Array]
"""From weights, observations (servers, ...), the number of the step and a key to actions."""


class Clock(struct.PyTreeNode):
    """`StepTimings` for a compiled program."""

    frames: jax.Array
    frame_nanoseconds: jax.Array
    frame_seconds: jax.Array
    response_frame: jax.Array
    frames_before_reset: jax.Array
    frames_after_reset: jax.Array

    @classmethod
    def of(cls, steps: StepTimings) -> "Clock":
        """The same on the device."""
        seconds = jnp.asarray(frame_seconds(steps.frame_ns))
        others = steps.response_frame, steps.frames_before_reset, steps.frames_after_reset
        arrays = map(jnp.asarray, others)
        return cls(jnp.asarray(steps.frames), jnp.asarray(steps.frame_ns), seconds, *arrays)

    def params(self, row: jax.Array, draw: jax.Array, fresh: jax.Array, params: GameParams) -> GameParams:
        """The parameters of one step.

        Args:
            row: int32, of the measured steps; counted beyond their end, they begin anew.
            draw: uint32, random.
            fresh: bool, the first step of an episode. Its frames are those since the reset, and
                none of them has the action.
            params: of the game.
        """
        row = row % len(self.frames)
        frames, response = self.frames[row], self.response_frame[row]
        if count := len(self.frames_after_reset):
            frames = jnp.where(fresh, self.frames_after_reset[draw % count], frames)
            response = jnp.where(fresh, 0, response)
        return params.replace(
            frames_per_step=frames,
            response_frame=response,
            frame_nanoseconds=self.frame_nanoseconds[row],
            frame_seconds=self.frame_seconds[row],
        )

    def params_before_reset(self, row: jax.Array, draw: jax.Array, params: GameParams) -> GameParams:
        """The parameters of the frames from an episode's last response to that of the reset."""
        frames = jnp.int32(0)
        if count := len(self.frames_before_reset):
            frames = self.frames_before_reset[draw % count]
        now = self.params(row, draw, jnp.asarray(False), params)
        return now.replace(frames_per_step=frames, response_frame=jnp.int32(0))


@partial(jax.jit, static_argnames=("env", "policy", "servers", "in_turn"))
def evaluate_in_turn(
    env: DodgeEnv,
    policy: Policy,
    weights: Any,
    params: GameParams,
    clock: Clock,
    key: jax.Array,
    servers: int,
    in_turn: int,
) -> Episodes:
    """Play `in_turn` episodes one after another on each of `servers` servers.

    Args:
        env: with `most_frames_per_step` of the longest step.
        policy: of all servers.
        weights: of the policy.
        params: of the game; the clock decides its timing.
        clock: the measured steps.
        key: random key.
        servers: environments in parallel.
        in_turn: episodes of each.

    Returns:
        The episodes, (servers * in_turn,), those of one server together.
    """
    key, key_reset = jax.random.split(key)
    keys = jax.random.split(key_reset, servers)
    row = jax.random.randint(jax.random.fold_in(key_reset, 0), (servers,), 0, len(clock.frames))

    def first(key: jax.Array, row: jax.Array) -> Any:
        return env.reset(key, clock.params(row, jnp.uint32(0), jnp.asarray(False), params))

    def begin(
        key: jax.Array, observation: Any, state: Any, row: jax.Array, draw: jax.Array, ended: jax.Array
    ) -> Any:
        # The last action goes on until the server resets, and what is thrown is removed then.
        key, key_reset = jax.random.split(key)
        now = clock.params_before_reset(row, draw, params)
        _, waited, *_ = env.step_env(key, state, state.action, now)
        return select(ended, env.restart(key_reset, waited, now), (observation, state))

    def next_of(key: jax.Array, state: Any, action: jax.Array, row: jax.Array, draw: jax.Array) -> Any:
        now = clock.params(row, draw, state.time == 0, params)
        observation, state, reward, terminated, _ = env.step_env(key, state, action, now)
        return observation, state, reward, terminated, env.is_truncated(state, now)

    observation, state = jax.vmap(first)(keys, row)
    shape = servers, in_turn
    played = Episodes(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool))
    each = jnp.arange(servers)

    def step(carry: Any) -> Any:
        key, number, observation, state, ended, finished, played = carry
        key, key_step, key_action, key_begin = jax.random.split(key, 4)
        key_begin, key_draws = jax.random.split(key_begin)
        draws = jax.random.bits(key_draws, (servers,), jnp.uint32)
        observation, state = jax.lax.cond(
            ended.any(),
            jax.vmap(begin),
            lambda _, observation, state, *__: (observation, state),
            *(jax.random.split(key_begin, servers), observation, state, row + number, draws, ended),
        )
        action = policy(weights, observation, number, key_action)
        observation, state, reward, terminated, truncated = jax.vmap(next_of)(
            jax.random.split(key_step, servers), state, action, row + number, draws
        )
        ended = terminated | truncated
        # Episodes beyond the last one are dropped.
        played = Episodes(
            returns=played.returns.at[each, finished].add(reward, mode="drop"),
            lengths=played.lengths.at[each, finished].add(1, mode="drop"),
            survived=played.survived.at[each, finished].set(truncated & ~terminated, mode="drop"),
        )
        return key, number + 1, observation, state, ended, finished + ended, played

    none = jnp.zeros(servers, bool)
    carry = key, jnp.int32(0), observation, state, none, jnp.zeros(servers, jnp.int32), played
    played = jax.lax.while_loop(lambda carry: (carry[-2] < in_turn).any(), step, carry)[-1]
    return jax.tree.map(jnp.ravel, played)
