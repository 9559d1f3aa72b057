"""The game as an environment with gymnax's interface: steps of frames, auto-reset, frame stacking.

gymnax itself takes 1.5 s to import and is not needed here; see `jaxdodge.sim.gymnax`.

Source: the specification, "Step, reset, configure", "What a step of the real server means" and the
decisions in `docs/design.md`.
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxdodge.config import OBSERVATION_MODES, GameConfig
from jaxdodge.render.topdown import locate, paint
from jaxdodge.sim.actions import action_shape, action_size
from jaxdodge.sim.draws import draw_duration, draw_uniform
from jaxdodge.sim.frame import reset_where
from jaxdodge.sim.kernel import one_kernel_on_gpu
from jaxdodge.sim.order import SIMULATOR
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.publish import Published, is_truncated, observe_vector, publish_state, scene
from jaxdodge.sim.state import State, cleared, server_start
from jaxdodge.sim.stepping import Timing, frame_inputs, phase_within
from jaxdodge.sim.systems import Command, spawn_position


class EnvState(struct.PyTreeNode):
    """The state of one environment after a step, and the past that its observations need."""

    game: State
    """As of a publication."""
    time: jax.Array
    """int32: steps since the last reset."""
    action: jax.Array
    """The last action: int32 scalar (discrete) or float32 (components,); zeros after a reset."""
    history: Any
    """The stored frames before the current one, (frame_stack - 1, ...), oldest first."""


class DodgeEnv:
    """The dodgeball game; interface of gymnax 1.0.

    Names, image size, slots, frame stack and timing are static and come from the
    configuration. Numbers come from `params` (`GameParams`) and can be vmapped and swept. One
    step applies the action, runs `response_frame` frames and publishes; the other frames of
    the step run before the next action. With `response_frame` 0 the publication is the one
    just before the action is applied.

    Observations: float32 (65,) or (69,) per stacked frame, plus the last action if
    `observe_previous_action` (one-hot if discrete); or uint8 (height, width, channels *
    frame_stack), then with the last action as `{"image", "previous_action"}`.
    """

    def __init__(
        self,
        config: GameConfig,
        most_frames_per_step: int | None = None,
        thrower_slots: int | None = None,
        order: tuple[str, ...] = SIMULATOR,
    ):
        """The environment of a configuration.

        Args:
            config: of the game.
            most_frames_per_step: if given, `frames_per_step` and `response_frame` too come from
                `params`: 0 <= frames_per_step <= this, 0 <= response_frame <= frames_per_step. Both
                may differ from step to step.
            thrower_slots: indicators that can be pending in the mode with_thrower, default as many
                as the configuration needs; for `params` with a shorter interval.
            order: of the systems of every frame (`jaxdodge.sim.order`).
        """
        self.config = config
        self._order = order
        self._thrower_slots = config.thrower_slots if thrower_slots is None else thrower_slots
        self._timing = Timing(config, most_frames_per_step, order)
        self._image = config.observation_mode == "topdown"
        self._with_thrower = config.observation_mode == "with_thrower"
        self._discrete = config.action_space_type == "discrete"

    @property
    def static_parts(self) -> tuple[int | None, int]:
        """What is static besides `config`: `most_frames_per_step`, and slots for indicators."""
        return self._timing.most_frames_per_step, self._thrower_slots if self._with_thrower else 1

    @property
    def num_actions(self) -> int:
        """5 for discrete actions, else the number of components."""
        return action_size(self.config.action_space_type)

    @property
    def default_params(self) -> GameParams:
        """The numbers of the configuration."""
        return game_params(self.config)

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: jax.Array, state: EnvState, action: jax.Array, params: GameParams | None = None
    ) -> tuple[jax.Array, EnvState, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """One step with auto-reset by the server's own reset command.

        Args:
            key: random key for the throws of this step.
            state: of one environment; vmap for many.
            action: int32 scalar or float32 (components,), clipped to [-1, 1]. One with a NaN is
                taken as zeros there, and ends the episode as a collision does.
            params: numbers of the game, default those of the configuration.

        Returns:
            observation, state, reward float32, terminated bool, truncated bool, info. After an
            episode's end the observation is the first of the next episode and
            `info["final_observation"]` the last of the old one.

        Raises:
            AssertionError: an action of another shape, or a discrete one that is no integer.
        """
        params = self.default_params if params is None else params
        throws, throw_of_reset = self._timing.throws(key, self._static(params))
        after, published = self.advance(throws, state, action, params)
        done = published.terminated | published.truncated
        # Select the state, then observe: an image is drawn once, not once per candidate.
        selected = self.restart_where(done, throw_of_reset, after, params)
        info = {
            **self._info(after, params),
            "terminated": published.terminated,
            "truncated": published.truncated,
            "final_observation": self.observe(None, after, None, params),
        }
        observation = self.observe(None, selected, None, params)
        return observation, selected, published.reward, published.terminated, published.truncated, info

    def step_env(
        self, key: jax.Array, state: EnvState, action: jax.Array, params: GameParams
    ) -> tuple[jax.Array, EnvState, jax.Array, jax.Array, dict[str, Any]]:
        """One step without reset: observation, state, reward, terminated, info."""
        throws, _ = self._timing.throws(key, self._static(params))
        after, published = self.advance(throws, state, action, params)
        observation = self.observe(None, after, None, params)
        return observation, after, published.reward, published.terminated, self._info(after, params)

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: jax.Array, params: GameParams | None = None) -> tuple[jax.Array, EnvState]:
        """Observation and state of the first episode of a long-running server: see `reset_env`."""
        return self.reset_env(key, self.default_params if params is None else params)

    def reset_env(self, key: jax.Array, params: GameParams) -> tuple[jax.Array, EnvState]:
        """The first episode of a long-running server: the spawn timer's phase is random."""
        key_phase, key_draw = jax.random.split(key)
        state = self.start()
        phase = draw_duration(key_phase, params.spawn_interval)
        state = state.replace(game=state.game.replace(spawn_timer=phase))
        throw = spawn_position(draw_uniform(key_draw, 1)[0], self._static(params))
        state = self.restart_where(True, throw, state, params)
        return self.observe(None, state, None, params), state

    def start(self) -> EnvState:
        """The state of a server that has just started and has published for the first time."""
        game = server_start(self.config.projectile_slots, self.static_parts[1])
        stored = jax.eval_shape(self._stored_frame, game, self.default_params)
        return EnvState(
            game=game,
            time=jnp.int32(0),
            action=jnp.int32(0) if self._discrete else jnp.zeros(self.num_actions, jnp.float32),
            history=jax.tree.map(
                lambda new: jnp.zeros((self.config.frame_stack - 1, *new.shape), new.dtype), stored
            ),
        )

    def restart(
        self, key: jax.Array, state: EnvState, params: GameParams | None = None
    ) -> tuple[jax.Array, EnvState]:
        """The server's reset command: observation and state, as `reset` returns them.

        Keeps the spawn timer's phase, pending indicators and on_ground; a throw of
        the last frame survives. `params` may be others than so far: a spawn timer
        beyond their interval is drawn anew.
        """
        params = self.default_params if params is None else params
        draws = draw_uniform(key, 2)
        throw = spawn_position(draws[0], self._static(params))
        phase = phase_within(state.game.spawn_timer, params.spawn_interval, draws[1])
        state = state.replace(game=state.game.replace(spawn_timer=phase))
        state = self.restart_where(True, throw, state, params)
        return self.observe(None, state, None, params), state

    def is_truncated(self, state: EnvState, params: GameParams) -> jax.Array:
        """bool: the episode has reached its step limit."""
        return is_truncated(state.game, params)

    def is_terminated(self, state: EnvState, params: GameParams) -> jax.Array:
        """bool: a collision has ended the episode."""
        return state.game.game_over

    def discount(self, state: EnvState, params: GameParams) -> jax.Array:
        """float32: 0 if terminated, else 1, also at the step limit."""
        return 1 - jnp.float32(self.is_terminated(state, params))

    def observe(
        self,
        key: jax.Array | None,
        state: EnvState,
        action: jax.Array | None,
        params: GameParams | None = None,
    ) -> jax.Array:
        """The observation of a state; key and action are not used."""
        params = self.default_params if params is None else params
        return self.assemble(self._stack_with(state, params), state.time, state.action)

    def stored_frame(self, state: EnvState, params: GameParams) -> Any:
        """The game's part of one observation in its smallest form, as replay buffers store it.

        float32 (65,) or (69,), or the `Discs` of an image.
        """
        return self._stored_frame(state.game, params)

    def _stored_frame(self, game: State, params: GameParams) -> Any:
        config = self.config
        if not self._image:
            return observe_vector(game, params, self._with_thrower)
        return locate(scene(game), width=config.image_obs_width, height=config.image_obs_height)

    def _stack_with(self, state: EnvState, params: GameParams) -> Any:
        """The stored frames of an observation, leading axis (frame_stack,)."""
        frame = self.stored_frame(state, params)
        if self.config.frame_stack == 1:
            # The state may be that of an environment with another history:
            # privileged critics see it too.
            return jax.tree.map(lambda new: new[None], frame)
        return jax.tree.map(lambda old, new: jnp.concatenate([old, new[None]]), state.history, frame)

    def assemble(self, frames: Any, time: jax.Array, previous_action: jax.Array) -> jax.Array:
        """The observation that a stack of stored frames stands for.

        Args:
            frames: of consecutive steps, leading axis (frame_stack,), oldest first.
            time: int32 steps since the reset, of the last frame; frames
                before the reset count as zeros.
            previous_action: as in `EnvState.action`.
        """
        if self._image:
            config = self.config
            size = {"width": config.image_obs_width, "height": config.image_obs_height}
            frames = paint(frames, **size, grayscale=config.image_grayscale)
        return self.stack(frames, time, previous_action)

    def stack(self, published: Any, time: jax.Array, previous_action: jax.Array) -> Any:
        """The observation that a stack of publications stands for.

        Args:
            published: float32 (frame_stack, 65) or (frame_stack, 69), or uint8 images
                (frame_stack, height, width, channels), oldest first.
            time: as for `assemble`.
            previous_action: as in `EnvState.action`.
        """
        real = self._real(time)
        if not self._image:
            vector = jnp.where(real[:, None], published, 0).reshape(-1)
            return self._with_action(vector, time, previous_action)
        images = jnp.where(real[:, None, None, None], published, jnp.uint8(0))
        return self._with_action(jnp.concatenate(list(images), axis=-1), time, previous_action)

    def _real(self, time: jax.Array) -> jax.Array:
        """Which frames of a stack are of this episode, bool (frame_stack,); see `assemble`."""
        count = self.config.frame_stack
        return jnp.arange(count, dtype=jnp.int32) >= count - 1 - time

    def _with_action(self, stacked: jax.Array, time: jax.Array, previous_action: jax.Array) -> Any:
        """The observation of a stack of frames: with the previous action, if that is observed."""
        if not self.config.observe_previous_action:
            return stacked
        if self._discrete:
            one_hot = jax.nn.one_hot(previous_action, self.num_actions, dtype=jnp.float32)
            previous_action = jnp.where(time > 0, one_hot, 0)
        if self._image:
            return {"image": stacked, "previous_action": previous_action}
        return jnp.concatenate([stacked, previous_action])

    def counts(self, state: EnvState) -> dict[str, jax.Array]:
        """The counts in `info`, int32: steps, projectiles, and spawns that found no free slot."""
        return {
            "episode_steps": state.game.episode_steps,
            "projectile_count": state.game.projectiles.count,
            "dropped_projectiles": state.game.dropped_projectiles,
            "dropped_throwers": state.game.dropped_throwers,
        }

    def _info(self, state: EnvState, params: GameParams) -> dict[str, jax.Array]:
        return {**self.counts(state), "discount": self.discount(state, params)}

    def _static(self, params: GameParams) -> GameParams:
        """Mode and level as constants; the compiler then drops the branches of the others."""
        return params.replace(
            observation_mode=jnp.int32(OBSERVATION_MODES.names.index(self.config.observation_mode)),
            random_spawn_position=jnp.asarray(self.config.random_spawn_position),
        )

    def advance(
        self,
        throws: Any,
        state: EnvState,
        action: jax.Array,
        params: GameParams,
        fresh: jax.Array | None = None,
    ) -> tuple[EnvState, Published]:
        """`step_env` with given throws.

        Args:
            throws: x and y, each float32 (frames_per_step,): origin of each frame's throw.
            state, action, params: as for `step`.
            fresh: bool, no frame has passed since the reset's; None where the first step follows it
                at once.

        Returns:
            the state after the step and what it published.
        """
        chex.assert_shape(action, action_shape(self.config.action_space_type))
        if self._discrete:
            chex.assert_type(action, int)

        def run(
            state: EnvState, throws: Any, action: jax.Array, params: GameParams, *fresh: jax.Array
        ) -> tuple[EnvState, Published]:
            action, invalid = self._valid(action)
            static = self._static(params)
            first = fresh[0] if fresh else state.time == 0
            static_timing = self._timing.most_frames_per_step is None
            waiting = None if static_timing else state.time - state.game.episode_steps
            game = self._timing.advance(state.game, static, throws, state.action, action, first, waiting)
            game = game.replace(game_over=game.game_over | invalid)
            return EnvState(game, state.time + 1, action, None), publish_state(game, static)

        run = one_kernel_on_gpu(run, self.config.projectile_slots)
        after, published = run(
            state.replace(history=None), throws, action, params, *([] if fresh is None else [fresh])
        )
        history = jax.tree.map(lambda frames: frames[1:], self._stack_with(state, params))
        return after.replace(history=history), published

    def _valid(self, action: jax.Array) -> tuple[jax.Array, jax.Array | bool]:
        """The action as the rules take it, and whether it was none."""
        if self._discrete:
            return jnp.asarray(action, jnp.int32), False
        action = jnp.clip(jnp.asarray(action, jnp.float32), -1, 1)
        # A position of NaN is near no projectile. Once per step, not in every frame.
        return jnp.where(jnp.isnan(action), jnp.float32(0), action), jnp.isnan(action).any()

    def restart_where(
        self, condition: jax.Array | bool, throw: Any, state: EnvState, params: GameParams
    ) -> EnvState:
        """The reset command and its frame where the condition holds; `throw`: x, y of its throw."""

        def run(state: EnvState, condition: Any, throw: Any, params: GameParams) -> EnvState:
            static = self._static(params)
            inputs = frame_inputs(throw, static, Command(reset=True))
            game = reset_where(condition, state.game, static, inputs, self._with_thrower, self._order)
            return EnvState(game, *cleared(condition, (state.time, state.action)), None)

        run = one_kernel_on_gpu(run, self.config.projectile_slots)
        restarted = run(state.replace(history=None), condition, throw, params)
        return restarted.replace(history=cleared(condition, state.history))
