"""Timing: the frames of a step, the frame that applies the action, and the phase of the throws.

Source: the specification, "Step, reset, configure", "What a step of the real server means" and the
decisions in `docs/design.md`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdodge.config import GameConfig
from jaxdodge.exact import product
from jaxdodge.sim.actions import Movement, movement
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.duration import NANOSECONDS_PER_SECOND, Duration
from jaxdodge.sim.frame import frame
from jaxdodge.sim.order import SIMULATOR
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.state import State, select
from jaxdodge.sim.systems import Command, Inputs, spawn_position


def frame_inputs(throw: Any, params: GameParams, command: Command) -> Inputs:
    """The inputs of a frame; `throw` is x and y of a projectile thrown in it."""
    return Inputs(params.frame_nanoseconds, params.frame_seconds, throw, (command,))


def scaled(duration: Duration, factor: jax.Array) -> Duration:
    """The duration times a float32 factor from 0, as exact as float32 seconds are."""
    # The fraction of a product that is not rounded could be negative.
    seconds = product(duration.as_seconds(), factor)
    whole = jnp.floor(seconds)
    nanoseconds = jnp.rint((seconds - whole) * NANOSECONDS_PER_SECOND).astype(jnp.int32)
    return Duration(whole.astype(jnp.int32), nanoseconds)


def phase_within(timer: Duration, interval: Duration, draw: jax.Array) -> Duration:
    """The timer if within the interval, else a phase from a uniform draw in [0, 1)."""
    return select(timer.at_least(interval), scaled(interval, draw), timer)


@dataclasses.dataclass(frozen=True)
class Timing:
    """The frames of one environment between two responses.

    Without `most_frames_per_step`, `frames_per_step` and `response_frame` are static, those of the
    configuration. With it they are those of the parameters, which may differ from step to step:
    every step then scans over that many frames, and the excess frames change nothing. Both give the
    same bits for the same numbers.
    """

    config: GameConfig
    most_frames_per_step: int | None
    order: tuple[str, ...] = SIMULATOR
    """Of the systems of every frame."""

    def throws(self, key: jax.Array, params: GameParams) -> tuple[Any, Any]:
        """x and y of the throws of a step's frames, float32 (frames,), and of a reset's frame."""
        most = self.most_frames_per_step

        def aimed(draws: jax.Array) -> tuple[jax.Array, jax.Array]:
            return spawn_position(draws, params)

        def in_turn(draws: jax.Array) -> tuple[jax.Array, jax.Array]:
            # XLA on CPU otherwise recomputes sine and cosine at every use.
            return jax.lax.map(aimed, draws)

        draws = draw_uniform(key, (self.config.frames_per_step if most is None else most) + 1)
        throws = jax.lax.platform_dependent(draws, cpu=in_turn, default=aimed)
        # The reset takes the draw after those of the frames.
        reset = -1 if most is None else params.frames_per_step
        x, y = throws
        return (x[:-1], y[:-1]), (x[reset], y[reset])

    def advance(
        self,
        game: State,
        params: GameParams,
        throws: Any,
        last_action: jax.Array,
        action: jax.Array,
        fresh: jax.Array,
        waiting: jax.Array | None = None,
    ) -> State:
        """From one response to the next.

        Args:
            game: as of a response.
            params: numbers of the game.
            throws: as from `throws`.
            last_action: of the step before, which is applied only now if `response_frame` is 0.
            action: of this step.
            fresh: bool, no step since the reset: no frame and no action is left over.
            waiting: int32, actions before this one that no frame has handled; given with
                `most_frames_per_step` only.
        """
        if waiting is not None:
            return self._advance_masked(game, params, throws, (last_action, action), fresh, waiting)
        frames, response = self.config.frames_per_step, self.config.response_frame
        if response == 0:
            return self._run(game, params, throws, last_action, ~fresh)
        if response < frames:
            earlier = jax.tree.map(lambda array: array[: frames - response], throws)
            game = select(fresh, game, self._run(game, params, earlier, action, False))
        throws = jax.tree.map(lambda array: array[frames - response :], throws)
        return self._run(game, params, throws, action, True)

    def _advance_masked(
        self,
        game: State,
        params: GameParams,
        throws: Any,
        actions: tuple[jax.Array, jax.Array],
        fresh: jax.Array,
        waiting: jax.Array,
    ) -> State:
        frames, response = params.frames_per_step, params.response_frame
        first = jnp.where(response == 0, 0, frames - response)
        number = jnp.arange(self.most_frames_per_step, dtype=jnp.int32)
        runs = (number < frames) & ((number >= first) | ~fresh)
        applies_new = (number == first) & (response > 0)
        applies_last = (number == 0) & (waiting > 0) & ~applies_new
        # A frame handles all actions that have arrived. Only the latest moves the player.
        overtaken = jnp.where(frames > 0, waiting - applies_last.any(), 0)
        game = game.replace(episode_steps=game.episode_steps + overtaken)
        last, new = (movement(action, self.config.action_space_type) for action in actions)

        def one(game: State, now: Any) -> tuple[State, None]:
            throw, runs, applies_last, applies_new = now
            move = select(applies_new, new, last)
            return select(
                runs, self._frame(game, throw, params, move, applies_last | applies_new), game
            ), None

        return jax.lax.scan(one, game, (throws, runs, applies_last, applies_new))[0]

    def _run(
        self, game: State, params: GameParams, throws: Any, action: jax.Array, apply: jax.Array | bool
    ) -> State:
        """Run a frame per throw; the first applies the action, where `apply` holds."""
        count = len(throws[0])
        move = movement(action, self.config.action_space_type)
        if count == 1:
            return self._frame(game, jax.tree.map(lambda array: array[0], throws), params, move, apply)

        def one(game: State, now: Any) -> tuple[State, None]:
            throw, applies = now
            return self._frame(game, throw, params, move, applies), None

        applies = (jnp.arange(count, dtype=jnp.int32) == 0) & apply
        return jax.lax.scan(one, game, (throws, applies))[0]

    def _frame(
        self, game: State, throw: Any, params: GameParams, move: Movement, applies: jax.Array | bool
    ) -> State:
        inputs = frame_inputs(throw, params, Command(step=applies, move=move))
        return frame(game, params, inputs, self.config.observation_mode == "with_thrower", self.order)
