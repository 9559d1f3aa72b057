"""The game as an environment after gymnax's contract: steps of several frames, auto-reset, frame stacking.

Without gymnax itself, which takes a second and a half to import; see `jaxdodge.sim.gymnax`.

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
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.publish import Published, observe_vector, publish_state, scene
from jaxdodge.sim.state import NOT_ASKED, State, server_start
from jaxdodge.sim.stepping import Timing, frame_inputs, phase_within
from jaxdodge.sim.systems import Command, spawn_position


class EnvState(struct.PyTreeNode):
    """An arena as of a response, and what an agent's observation needs of the past."""

    game: State
    """Without the parameters, which every call brings along, and what is over at a publication."""
    time: jax.Array
    """int32: steps since the last reset."""
    action: jax.Array
    """The last action: int32 scalar (discrete) or float32 (components,); zeros after a reset."""
    history: Any
    """The frame_stack - 1 entries before the current one, oldest first; None without stacking."""


class DodgeEnv:
    """The dodgeball arena; gymnax 1.0 contract.

    Static things (names, image size, slots, frame stack, timing) come from the configuration; numbers come
    from `params` (`GameParams`) and can be vmapped and swept. One step applies the action, runs
    `response_frame` frames and publishes; the other frames of the step run before the next action. With
    `response_frame` 0 the publication is the one just before the action is applied.

    Observations: float32 (65,) or (69,) per stacked entry, plus the last action if
    `observe_previous_action` (one-hot if discrete); or uint8 (height, width, channels * frame_stack),
    then with the last action as `{"image", "previous_action"}`.
    """

    def __init__(
        self,
        config: GameConfig,
        most_frames_per_step: int | None = None,
        thrower_slots: int | None = None,
    ):
        """The environment of a configuration.

        Args:
            config: of the game.
            most_frames_per_step: if given, `frames_per_step` and `response_frame` too come from `params`:
                1 <= frames_per_step <= this, 0 <= response_frame <= frames_per_step.
            thrower_slots: indicators that an arena can hold in the mode with_thrower, default as many as the
                configuration needs; for `params` with a shorter interval.
        """
        self.config = config
        self._thrower_slots = config.thrower_slots if thrower_slots is None else thrower_slots
        self._timing = Timing(config, most_frames_per_step)
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
    def step(self, key, state: EnvState, action, params: GameParams | None = None):
        """One step with auto-reset by the server's own reset command.

        Args:
            key: random key for the throws of this step.
            state: of one arena; vmap for many.
            action: int32 scalar or float32 (components,), clipped to [-1, 1].
            params: numbers of the game, default those of the configuration.

        Returns:
            observation, state, reward float32, terminated bool, truncated bool, info. After an episode's end
            the observation is the first of the next episode and `info["final_observation"]` the last of
            the old one.

        Raises:
            AssertionError: an action of another shape.
        """
        params = self.default_params if params is None else params
        throws, throw_of_reset = self._timing.throws(key, self._static(params))
        after, published = self._advance(throws, state, action, params)
        done = published.terminated | published.truncated
        # Select the state, then observe: an image is drawn once, not once per candidate.
        selected = self._restart_where(done, throw_of_reset, after, params)
        info = {
            **self.counts(after),
            "terminated": published.terminated,
            "truncated": published.truncated,
            "final_observation": self.observe(None, after, None, params),
        }
        observation = self.observe(None, selected, None, params)
        return observation, selected, published.reward, published.terminated, published.truncated, info

    def step_env(self, key, state: EnvState, action, params: GameParams):
        """One step without reset: observation, state, reward, terminated, info."""
        throws, _ = self._timing.throws(key, self._static(params))
        after, published = self._advance(throws, state, action, params)
        observation = self.observe(None, after, None, params)
        return observation, after, published.reward, published.terminated, self.counts(after)

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key, params: GameParams | None = None):
        """Observation and state as of a long-running server's first episode: see `reset_env`."""
        return self.reset_env(key, self.default_params if params is None else params)

    def reset_env(self, key, params: GameParams):
        """A long-running server's first episode: its spawn timer is anywhere in its period."""
        key_phase, key_draw = jax.random.split(key)
        config = self.config
        game = server_start(params, config.projectile_slots, self.static_parts[1])
        state = EnvState(
            game=_carried(game.replace(spawn_timer=draw_duration(key_phase, params.spawn_interval))),
            time=jnp.int32(0),
            action=jnp.int32(0) if self._discrete else jnp.zeros(self.num_actions, jnp.float32),
            history=None,
        )
        history = None
        if config.frame_stack > 1:
            history = jax.tree.map(
                lambda entry: jnp.zeros((config.frame_stack - 1, *entry.shape), entry.dtype),
                jax.eval_shape(self.entry, state, params),
            )
        throw = spawn_position(draw_uniform(key_draw, 1)[0], self._static(params))
        state = self._restart_where(True, throw, state.replace(history=history), params)
        return self.observe(None, state, None, params), state

    def restart(self, key, state: EnvState, params: GameParams | None = None):
        """The server's reset command: observation and state, as `reset` returns them.

        Keeps the spawn timer's phase, pending indicators and on_ground; a throw of the last frame survives.
        `params` may be others than so far: a spawn timer beyond their interval is drawn anew.
        """
        params = self.default_params if params is None else params
        draws = draw_uniform(key, 2)
        throw = spawn_position(draws[0], self._static(params))
        phase = phase_within(state.game.spawn_timer, params.spawn_interval, draws[1])
        state = state.replace(game=state.game.replace(spawn_timer=phase))
        state = self._restart_where(True, throw, state, params)
        return self.observe(None, state, None, params), state

    def is_truncated(self, state: EnvState, params: GameParams) -> jax.Array:
        """bool: the episode has had its steps."""
        return state.game.episode_steps >= params.max_episode_steps

    def is_terminal(self, state: EnvState, params: GameParams) -> jax.Array:
        """bool: terminated or truncated."""
        return state.game.game_over | self.is_truncated(state, params)

    def observe(self, key, state: EnvState, action, params: GameParams | None = None):
        """The observation of a state; key and action are not used."""
        params = self.default_params if params is None else params
        entries = jax.tree.map(lambda array: array[None], self.entry(state, params))
        if self.config.frame_stack > 1:
            entries = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), state.history, entries)
        return self.assemble(entries, state.time, state.action)

    def entry(self, state: EnvState, params: GameParams):
        """The part of an observation that is the arena's, small enough to be kept by the million.

        float32 (65,) or (69,), or the `Discs` of an image.
        """
        game, config = self.arena(state, params), self.config
        if not self._image:
            return observe_vector(game, self._with_thrower)
        return locate(scene(game), width=config.image_obs_width, height=config.image_obs_height)

    def assemble(self, entries, time, previous_action):
        """The observation that a stack of entries stands for.

        Args:
            entries: of consecutive steps, leading axis (frame_stack,), oldest first.
            time: int32 steps since the reset, of the last entry; those before the reset count as zeros.
            previous_action: as `EnvState.action` has it.
        """
        if self._image:
            config = self.config
            size = {"width": config.image_obs_width, "height": config.image_obs_height}
            entries = paint(entries, **size, grayscale=config.image_grayscale)
        return self.stack(entries, time, previous_action)

    def stack(self, published, time, previous_action):
        """The observation that a stack of what a server publishes stands for.

        Args:
            published: float32 (frame_stack, 65) or (frame_stack, 69), or uint8 images
                (frame_stack, height, width, channels), oldest first.
            time: as `assemble` takes it.
            previous_action: as `EnvState.action` has it.
        """
        config = self.config
        if config.observe_previous_action and self._discrete:
            one_hot = jax.nn.one_hot(previous_action, self.num_actions, dtype=jnp.float32)
            previous_action = jnp.where(time > 0, one_hot, 0)
        real = jnp.arange(config.frame_stack) >= config.frame_stack - 1 - time
        if not self._image:
            vector = jnp.where(real[:, None], published, 0).reshape(-1)
            return jnp.concatenate([vector, previous_action]) if config.observe_previous_action else vector
        images = jnp.where(real[:, None, None, None], published, jnp.uint8(0))
        image = jnp.concatenate(list(images), axis=-1)
        return (
            {"image": image, "previous_action": previous_action} if config.observe_previous_action else image
        )

    def arena(self, state: EnvState, params: GameParams | None = None) -> State:
        """The whole state that the systems run on, from what an environment's state keeps of it."""
        params = self.default_params if params is None else params
        nobody = jnp.full(self.config.projectile_slots, NOT_ASKED)
        return state.game.replace(
            params=self._static(params),
            spawn_interval=params.spawn_interval,
            projectiles=state.game.projectiles.replace(cleared=nobody),
            collision=jnp.asarray(False),
        )

    def counts(self, state: EnvState) -> dict[str, jax.Array]:
        """What `info` holds of a state, int32: steps, projectiles, and what found no free slot."""
        return {
            "episode_steps": state.game.episode_steps,
            "projectile_count": state.game.projectiles.count,
            "dropped_projectiles": state.game.dropped_projectiles,
            "dropped_throwers": state.game.dropped_throwers,
        }

    def _static(self, params: GameParams) -> GameParams:
        """Mode and level as constants; the compiler then drops the branches of the others."""
        return params.replace(
            observation_mode=jnp.int32(OBSERVATION_MODES.names.index(self.config.observation_mode)),
            random_spawn_position=jnp.asarray(self.config.random_spawn_position),
        )

    def _advance(self, throws, state: EnvState, action, params) -> tuple[EnvState, Published]:
        """From a response to the next one; a throw per frame, in the order of the frames."""
        chex.assert_shape(action, action_shape(self.config.action_space_type))
        if self._discrete:
            action = jnp.asarray(action, jnp.int32)
        else:
            action = jnp.clip(jnp.asarray(action, jnp.float32), -1, 1)
        game, fresh = self.arena(state, params), state.time == 0
        game = self._timing.advance(game, throws, state.action, action, fresh)
        published = publish_state(game)
        history = state.history
        if history is not None:
            history = jax.tree.map(
                lambda old, new: jnp.concatenate([old[1:], new[None]]), history, self.entry(state, params)
            )
        after = EnvState(_carried(game), state.time + 1, action, history)
        return after, published

    def _restart_where(self, condition, throw, state: EnvState, params: GameParams) -> EnvState:
        """The reset command and its frame where the condition holds."""
        inputs = frame_inputs(throw, params, Command(reset=True))
        game = reset_where(condition, self.arena(state, params), inputs, self._with_thrower)

        def cleared(array: jax.Array) -> jax.Array:
            return jnp.where(condition, jnp.zeros_like(array), array)

        return EnvState(
            game=_carried(game),
            time=cleared(state.time),
            action=cleared(state.action),
            history=jax.tree.map(cleared, state.history),
        )


def _carried(game: State) -> State:
    """What a step leaves to the next: without what every call brings along, or what is over by then."""
    projectiles = game.projectiles.replace(cleared=None)
    return game.replace(params=None, spawn_interval=None, projectiles=projectiles, collision=None)
