"""The game as a gymnax environment: steps of several frames, auto-reset, frame stacking.

Source: the specification, "Step, reset, configure", "What a step of the real server means" and the
decisions in `docs/design.md`.
"""

from functools import partial
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import spaces
from gymnax.environments.environment import Environment

from jaxdodge.config import OBSERVATION_MODES, GameConfig
from jaxdodge.render.topdown import draw
from jaxdodge.sim.actions import DISCRETE_DIRECTIONS, action_size, movement
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.duration import NANOSECONDS_PER_SECOND, Duration
from jaxdodge.sim.frame import frame, reset_where
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.publish import (
    STANDARD_SIZE,
    WITH_THROWER_SIZE,
    Published,
    observe_vector,
    publish_state,
    scene,
)
from jaxdodge.sim.state import State, server_start
from jaxdodge.sim.systems import Command, Inputs, spawn_position

SERVER_BOUND = 100.0


@struct.dataclass
class EnvState:
    """An arena as of a response, and what an agent's observation needs of the past."""

    game: State
    """Without `params` and the timer's interval, which every call brings along."""
    time: jax.Array
    """int32: steps since the last reset."""
    action: jax.Array
    """The last action: int32 scalar (discrete) or float32 (components,); zeros after a reset."""
    history: Any
    """The frame_stack - 1 entries before the current one, oldest first; None without stacking."""


class DodgeEnv(Environment):
    """The dodgeball arena; gymnax 1.0 contract.

    Static things (names, image size, slots, frame stack, timing) come from the configuration; numbers come
    from `params` (`GameParams`) and can be vmapped and swept. One step applies the action, runs
    `response_frame` frames and publishes; the other frames of the step run before the next action. With
    `response_frame` 0 the publication is the one just before the action is applied.

    Observations: float32 (65,) or (69,) per stacked entry, plus the last action if
    `observe_previous_action` (one-hot if discrete); or uint8 (height, width, channels * frame_stack),
    then with the last action as `{"image", "previous_action"}`.
    """

    def __init__(self, config: GameConfig):
        super().__init__()
        self.config = config
        self._image = config.observation_mode == "topdown"
        self._with_thrower = config.observation_mode == "with_thrower"
        self._discrete = config.action_space_type == "discrete"

    @property
    def name(self) -> str:
        """The registered name."""
        return "jaxdodge/Dodge-v0"

    @property
    def num_actions(self) -> int:
        """5 for discrete actions, else the number of components."""
        return action_size(self.config.action_space_type)

    @property
    def default_params(self) -> GameParams:
        """The numbers of the configuration."""
        return game_params(self.config)

    def action_space(self, params: GameParams | None = None) -> spaces.Space:
        """Discrete(5) or Box(-1, 1, (components,))."""
        if self._discrete:
            return spaces.Discrete(len(DISCRETE_DIRECTIONS))
        return spaces.Box(-1.0, 1.0, (self.num_actions,), jnp.float32)

    def observation_space(self, params: GameParams | None = None) -> spaces.Space:
        """The server's Box(-100, 100), wider only if the configured speeds leave it; images Box(0, 255)."""
        config, previous = self.config, spaces.Box(-1.0, 1.0, (self.num_actions,), jnp.float32)
        if self._image:
            channels = (1 if config.image_grayscale else 3) * config.frame_stack
            image = spaces.Box(
                0, 255, (config.image_obs_height, config.image_obs_width, channels), jnp.uint8
            )
            both = {"image": image, "previous_action": previous}
            return spaces.Dict(both) if config.observe_previous_action else image
        size = (WITH_THROWER_SIZE if self._with_thrower else STANDARD_SIZE) * config.frame_stack
        size += self.num_actions * config.observe_previous_action
        fastest = config.player_speed * (1 + config.sprint_multiplier)
        bound = max(SERVER_BOUND, float(np.nextafter(np.float32(fastest), np.float32(np.inf))))
        return spaces.Box(-bound if fastest > SERVER_BOUND else -SERVER_BOUND, bound, (size,), jnp.float32)

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
        """
        params = self.default_params if params is None else params
        draws = draw_uniform(key, self.config.frames_per_step + 1)
        after, published = self._advance(draws[:-1], state, action, params)
        done = published.terminated | published.truncated
        # Select the state, then observe: an image is drawn once, not once per candidate. The barrier keeps
        # the compiler from computing the whole step again for every number of the observation.
        selected = jax.lax.optimization_barrier(self._restart_where(done, draws[-1], after, params))
        info = {
            **self._info(after, published),
            "terminated": published.terminated,
            "truncated": published.truncated,
            "final_observation": self.observe(None, after, None, params),
        }
        observation = self.observe(None, selected, None, params)
        return observation, selected, published.reward, published.terminated, published.truncated, info

    def step_env(self, key, state: EnvState, action, params: GameParams):
        """One step without reset: observation, state, reward, terminated, info."""
        draws = draw_uniform(key, self.config.frames_per_step + 1)
        after, published = self._advance(draws[:-1], state, action, params)
        observation = self.observe(None, after, None, params)
        return observation, after, published.reward, published.terminated, self._info(after, published)

    def reset_env(self, key, params: GameParams):
        """A long-running server's first episode: its spawn timer is anywhere in its period."""
        key_phase, key_draw = jax.random.split(key)
        config = self.config
        game = server_start(
            params, config.projectile_slots, config.thrower_slots if self._with_thrower else 1
        )
        state = EnvState(
            game=_without_params(game.replace(spawn_timer=_uniform(key_phase, params.spawn_interval))),
            time=jnp.int32(0),
            action=jnp.int32(0) if self._discrete else jnp.zeros(self.num_actions, jnp.float32),
            history=None,
        )
        history = None
        if config.frame_stack > 1:
            history = jax.tree.map(
                lambda entry: jnp.zeros((config.frame_stack - 1, *entry.shape), entry.dtype),
                jax.eval_shape(self._entry, state, params),
            )
        draw = draw_uniform(key_draw, 1)[0]
        state = self._restart_where(True, draw, state.replace(history=history), params)
        return self.observe(None, state, None, params), state

    def restart(self, key, state: EnvState, params: GameParams | None = None):
        """The server's reset command: observation and state, as `reset` returns them.

        Keeps the spawn timer's phase, pending indicators and on_ground; a throw of the last frame survives.
        """
        params = self.default_params if params is None else params
        state = self._restart_where(True, draw_uniform(key, 1)[0], state, params)
        return self.observe(None, state, None, params), state

    def is_truncated(self, state: EnvState, params: GameParams) -> jax.Array:
        """bool: the episode has had its steps."""
        return state.game.episode_steps >= params.max_episode_steps

    def is_terminal(self, state: EnvState, params: GameParams) -> jax.Array:
        """bool: terminated or truncated."""
        return state.game.game_over | self.is_truncated(state, params)

    def observe(self, key, state: EnvState, action, params: GameParams | None = None):
        """The observation of a state; key and action are not used."""
        config = self.config
        params = self.default_params if params is None else params
        current = self._entry(state, params)
        entries = jax.tree.map(lambda array: array[None], current)
        if config.frame_stack > 1:
            entries = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), state.history, entries)
        if self._image:
            images = draw(
                entries,
                width=config.image_obs_width,
                height=config.image_obs_height,
                grayscale=config.image_grayscale,
            )
            if config.frame_stack > 1:
                real = jnp.arange(config.frame_stack) >= config.frame_stack - 1 - state.time
                images = jnp.where(real[:, None, None, None], images, jnp.uint8(0))
            observation = jnp.concatenate(list(images), axis=-1)
            if not config.observe_previous_action:
                return observation
            return {"image": observation, "previous_action": self._previous_action(state)}
        observation = entries.reshape(-1)
        if not config.observe_previous_action:
            return observation
        return jnp.concatenate([observation, self._previous_action(state)])

    def _previous_action(self, state: EnvState) -> jax.Array:
        if not self._discrete:
            return state.action
        one_hot = jax.nn.one_hot(state.action, self.num_actions, dtype=jnp.float32)
        return jnp.where(state.time > 0, one_hot, 0)

    def _entry(self, state: EnvState, params: GameParams):
        """What one entry of the stack is made of: a vector, or the scene of an image."""
        game = self._with_params(state.game, params)
        return scene(game) if self._image else observe_vector(game, self._with_thrower)

    def _info(self, state: EnvState, published: Published) -> dict[str, jax.Array]:
        return {
            "episode_steps": published.episode_steps,
            "projectile_count": published.projectile_count,
            "dropped_projectiles": state.game.dropped_projectiles,
            "dropped_throwers": state.game.dropped_throwers,
        }

    def _static(self, params: GameParams) -> GameParams:
        """Mode and level as constants; the compiler then drops the branches of the others."""
        return params.replace(
            observation_mode=jnp.int32(OBSERVATION_MODES.names.index(self.config.observation_mode)),
            random_spawn_position=jnp.asarray(self.config.random_spawn_position),
        )

    def _with_params(self, game: State, params: GameParams) -> State:
        return game.replace(params=self._static(params), spawn_interval=params.spawn_interval)

    def _advance(self, draws, state: EnvState, action, params) -> tuple[EnvState, Published]:
        """From a response to the next one; a draw per frame, in the order of the frames."""
        frames, response = self.config.frames_per_step, self.config.response_frame
        if self._discrete:
            action = jnp.asarray(action, jnp.int32)
        else:
            action = jnp.clip(jnp.asarray(action, jnp.float32), -1, 1)
        game, fresh = self._with_params(state.game, params), state.time == 0
        if response == 0:
            # The action of the last step is applied only now; after a reset there is none.
            game = self._run(game, draws, params, state.action, ~fresh)
        else:
            if response < frames:
                later = self._run(game, draws[: frames - response], params, action, False)
                game = jax.tree.map(lambda old, new: jnp.where(fresh, old, new), game, later)
            game = self._run(game, draws[frames - response :], params, action, True)
        published = publish_state(game)
        history = state.history
        if history is not None:
            history = jax.tree.map(
                lambda old, new: jnp.concatenate([old[1:], new[None]]), history, self._entry(state, params)
            )
        after = EnvState(_without_params(game), state.time + 1, action, history)
        return after, published

    def _run(self, game: State, draws, params: GameParams, action, apply) -> State:
        """Run a frame per draw; the first applies the action, where `apply` holds."""
        move = movement(action, self.config.action_space_type)

        def one(game: State, draw, apply) -> State:
            inputs = self._inputs(draw, params, Command(step=apply, move=move))
            return frame(game, inputs, self._with_thrower)

        if len(draws) == 1:
            return one(game, draws[0], apply)
        applies = jnp.zeros(len(draws), bool).at[0].set(apply)
        return jax.lax.scan(lambda game, x: (one(game, *x), None), game, (draws, applies))[0]

    def _restart_where(self, condition, draw, state: EnvState, params: GameParams) -> EnvState:
        """The reset command and its frame where the condition holds."""
        inputs = self._inputs(draw, params, Command(reset=True))
        game = reset_where(condition, self._with_params(state.game, params), inputs, self._with_thrower)

        def cleared(array: jax.Array) -> jax.Array:
            return jnp.where(condition, jnp.zeros_like(array), array)

        return EnvState(
            game=_without_params(game),
            time=cleared(state.time),
            action=cleared(state.action),
            history=jax.tree.map(cleared, state.history),
        )

    def _inputs(self, draw, params: GameParams, command: Command) -> Inputs:
        throw = spawn_position(draw, self._static(params))
        return Inputs(params.frame_nanoseconds, params.frame_seconds, throw, (command,))


def _without_params(game: State) -> State:
    return game.replace(params=None, spawn_interval=None)


def _uniform(key, duration: Duration) -> Duration:
    """A duration uniform over the whole nanoseconds below another one."""
    key_part, key_seconds, key_nanoseconds = jax.random.split(key, 3)
    whole = duration.seconds.astype(jnp.float32)
    rest = duration.nanoseconds.astype(jnp.float32) / NANOSECONDS_PER_SECOND
    in_whole = jax.random.uniform(key_part) * (whole + rest) < whole
    second = jax.random.randint(key_seconds, (), 0, jnp.maximum(duration.seconds, 1))
    below = jnp.where(in_whole, NANOSECONDS_PER_SECOND, jnp.maximum(duration.nanoseconds, 1))
    return Duration(
        jnp.where(in_whole, second, duration.seconds), jax.random.randint(key_nanoseconds, (), 0, below)
    )


def _from_fields(**fields: Any) -> DodgeEnv:
    return DodgeEnv(GameConfig.from_mapping(fields))


# gymnax refuses a second registration, which a reload of this module would be.
if "jaxdodge/Dodge-v0" not in gymnax.registered_envs:
    gymnax.register("jaxdodge/Dodge-v0", _from_fields)
