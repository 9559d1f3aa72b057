"""The game as Gymnasium environments: one (`gymnasium.make`) or many at once
(`gymnasium.make_vec`).

Both run the same functions of one environment, on `DodgeEnv`. With the same seed and actions, a
row of the vector environment and a single environment give the same bits.
"""

import functools
from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Number
from jaxdodge.render.topdown import draw
from jaxdodge.sim.action_checks import checked_actions
from jaxdodge.sim.env import DodgeEnv, EnvState
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.publish import scene
from jaxdodge.sim.spaces import action_space, observation_space
from jaxdodge.sim.state import select

RENDER_MODES = ["rgb_array"]


class _Functions:
    """What both classes do with one environment, as pure functions of its random key and state.

    "Seen" is the observation and the counts of a state. Instances are shared by the environments of
    a configuration (`_functions`), so that these compile once.
    """

    def __init__(self, config: GameConfig):
        self.env = DodgeEnv(config)
        self.params = self.env.default_params
        self.begin = jax.jit(self._begin)
        self.restart = jax.jit(self._restart)
        self.step = jax.jit(self._step)
        self.render = jax.jit(self._render)
        self.begin_many = jax.jit(jax.vmap(self._begin, in_axes=(0, None)))
        self.reset_many = jax.jit(jax.vmap(self._reset_some, in_axes=(0, 0, 0, 0, 0, None)))
        self.step_many = jax.jit(jax.vmap(self._step_and_restart, in_axes=(0, 0, 0, None)))
        self.see_many = jax.jit(jax.vmap(self._see, in_axes=(0, None)))
        self.render_many = jax.jit(jax.vmap(self._render))

    def _begin(self, words: jax.Array, params: GameParams) -> Any:
        key = jax.random.fold_in(jax.random.key(words[0]), words[1])
        key, key_reset = jax.random.split(key)
        _, state = self.env.reset(key_reset, params)
        return key, state, self._see(state, params)

    def _restart(self, key: jax.Array, state: EnvState, params: GameParams) -> Any:
        key, key_restart = jax.random.split(key)
        _, state = self.env.restart(key_restart, state, params)
        return key, state, self._see(state, params)

    def _step(self, key: jax.Array, state: EnvState, action: jax.Array, params: GameParams) -> Any:
        key, key_step = jax.random.split(key)
        _, state, reward, terminated, _ = self.env.step_env(key_step, state, action, params)
        flags = reward, terminated, self.env.is_truncated(state, params)
        return key, state, self._see(state, params), flags

    def _see(self, state: EnvState, params: GameParams) -> Any:
        return self.env.observe(None, state, None, params), self.env.counts(state)

    def _render(self, state: EnvState) -> jax.Array:
        size = {"width": self.env.config.image_obs_width, "height": self.env.config.image_obs_height}
        return draw(scene(state.game), **size, grayscale=False)

    def _reset_some(
        self,
        key: jax.Array,
        state: EnvState,
        words: jax.Array,
        fresh: jax.Array,
        again: jax.Array,
        params: GameParams,
    ) -> Any:
        """Begin if `fresh`, else restart if `again`, else leave the state as it is."""
        began = self._begin(words, params)[:2]
        restarted = self._restart(key, state, params)[:2]
        key, state = select(fresh, began, select(again, restarted, (key, state)))
        return key, state, self._see(state, params)

    def _step_and_restart(
        self, key: jax.Array, state: EnvState, action: jax.Array, params: GameParams
    ) -> Any:
        """A step, and the reset if it ended the episode. `after` is the state between the two."""
        key, after, _, (reward, terminated, truncated) = self._step(key, state, action, params)
        restarted = self._restart(key, after, params)[:2]
        # Select the state, then observe: an image is drawn once, not once per candidate.
        key, state = select(terminated | truncated, restarted, (key, after))
        return key, state, self._see(state, params), (reward, terminated, truncated), after


@functools.lru_cache(maxsize=16)
def _functions(config: GameConfig) -> _Functions:
    return _Functions(config)


class DodgeGymEnv(gymnasium.Env):
    """One environment. `gymnasium.make("jaxdodge/Dodge-v0", ...)` after `import jaxdodge`.

    Args:
        render_mode: None or "rgb_array"; then `render` gives the top-down image, uint8 (height,
            width, 3), of the configured size.
        **fields: any field of `GameConfig`; ConfigError refuses the others. `gymnasium.make` keeps
            `max_episode_steps` to itself, for a time limit on top of the game's own (1000 steps);
            other limits of the game itself go to this class.

    Observations and actions are NumPy values of the spaces of `jaxdodge.sim.spaces`. Actions
    outside their space are refused with ValueError, and nothing is applied. `reset` with a seed,
    and the first one, start a new game; a later one without a seed is the server's reset command,
    which keeps the spawn timer's phase, pending indicators and on_ground. `info` holds
    `episode_steps`, `projectile_count`, `dropped_projectiles` and `dropped_throwers`, all int.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 60}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **fields: Any):
        self.config = GameConfig.from_mapping(fields)
        self.render_mode = _checked_render_mode(render_mode)
        self.metadata = {**self.metadata, "render_fps": self.config.fps / self.config.frames_per_step}
        self._functions = _functions(self.config)
        self.observation_space, self.action_space = observation_space(self.config), action_space(self.config)
        self._key: Any = None
        self._state: EnvState | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The first observation and info of an episode; `options` has no effect."""
        super().reset(seed=seed)
        if seed is not None or self._state is None:
            began = self._functions.begin(_words(self.np_random), self._functions.params)
        else:
            began = self._functions.restart(self._key, self._state, self._functions.params)
        self._key, self._state, (observation, counts) = began
        return to_numpy(observation), _to_python(counts)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Observation, reward, terminated, truncated, info. Raises ValueError, ResetNeeded."""
        state = _needs_reset(self._state)
        checked = checked_actions(action, self.config.action_space_type)
        self._key, self._state, (observation, counts), flags = self._functions.step(
            self._key, state, checked, self._functions.params
        )
        reward, terminated, truncated = jax.device_get(flags)
        info = _to_python(counts)
        return to_numpy(observation), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """uint8 (height, width, 3); None and a warning without a
        render mode. Raises ResetNeeded.
        """
        if self.render_mode is None:
            gymnasium.logger.warn('render() does nothing without render_mode="rgb_array"')
            return None
        return to_numpy(self._functions.render(_needs_reset(self._state)))


class DodgeVectorEnv(VectorEnv):
    """Many at once, compiled: `gymnasium.make_vec("jaxdodge/Dodge-v0", num_envs=...)`.

    Args:
        num_envs: number of environments.
        render_mode: as for `DodgeGymEnv`; `render` gives a tuple of images.
        **fields: any field of `GameConfig`; ConfigError refuses the others.

    The autoreset mode is SAME_STEP: a step that ends an episode returns the first observation
    of the next one, and `info["final_obs"]` and `info["final_info"]` hold the last ones of the
    old, where the masks `_final_obs` and `_final_info` are true. Rewards are float64
    (num_envs,), flags bool (num_envs,).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": RENDER_MODES,
        "render_fps": 60,
    }

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **fields: Any):
        self.config = GameConfig.from_mapping(fields)
        self.num_envs = Number(int, 1).check("num_envs", num_envs)
        self.render_mode = _checked_render_mode(render_mode)
        self.metadata = {**self.metadata, "render_fps": self.config.fps / self.config.frames_per_step}
        self._functions = _functions(self.config)
        self.single_observation_space = observation_space(self.config)
        self.single_action_space = action_space(self.config)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._keys: Any = None
        self._states: EnvState | None = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,  # type: ignore[override]
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """First observations and info.

        Args:
            seed: None continues; an int seeds environment i with seed + i; a list holds one of both
                per environment.
            options: `reset_mask`, bool (num_envs,), leaves the other environments as they are.
        """
        seeds = self._seeds(seed)
        super().reset(seed=seed if isinstance(seed, int) else None)
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            got, accepted = f"{mask.dtype} {mask.shape}", f"bool ({self.num_envs},)"
            raise ValueError(f"reset_mask: invalid value {got}; expected {accepted}")
        # Environments that have never been reset begin, whatever the mask says.
        mask = mask | (self._states is None)
        fresh = mask & [self._states is None or own is not None for own in seeds]
        words = np.zeros((self.num_envs, 2), np.uint32)
        for row, own in enumerate(seeds):
            if fresh[row]:
                words[row] = _words(self.np_random if own is None else seeding.np_random(own)[0])
        if self._states is None:
            began = self._functions.begin_many(words, self._functions.params)
        else:
            began = self._functions.reset_many(
                self._keys, self._states, words, fresh, mask, self._functions.params
            )
        self._keys, self._states, (observations, counts) = began
        return to_numpy(observations), _info(counts, mask)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return [seed + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(
                f"seed: invalid value {len(seed)} seeds; expected {self.num_envs}, one per environment"
            )
        return seed

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Observation, reward, terminated, truncated of each, info.
        Raises ValueError, ResetNeeded.
        """
        states = _needs_reset(self._states)
        checked = checked_actions(actions, self.config.action_space_type, self.num_envs)
        self._keys, self._states, (observations, counts), flags, after = self._functions.step_many(
            self._keys, states, checked, self._functions.params
        )
        rewards, terminations, truncations = to_numpy(flags)
        ended = terminations | truncations
        info: dict[str, Any] = {}
        if ended.any():
            info.update(self._final(after, ended))
        info.update(_info(counts, np.ones(self.num_envs, bool)))
        return to_numpy(observations), rewards.astype(np.float64), terminations, truncations, info

    def _final(self, after: EnvState, ended: np.ndarray) -> dict[str, Any]:
        observations, counts = self._functions.see_many(after, self._functions.params)
        observations = to_numpy(observations)
        final = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(ended):
            final[row] = jax.tree.map(lambda array, row=row: array[row], observations)
        return {
            "final_obs": final,
            "_final_obs": ended.copy(),
            "final_info": _info(counts, ended),
            "_final_info": ended.copy(),
        }

    def render(self) -> tuple[np.ndarray, ...] | None:  # type: ignore[override]
        """A tuple of uint8 (height, width, 3); None, with a warning, without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn('render() does nothing without render_mode="rgb_array"')
            return None
        return tuple(to_numpy(self._functions.render_many(_needs_reset(self._states))))


def _checked_render_mode(mode: str | None) -> str | None:
    if mode is not None and mode not in RENDER_MODES:
        raise ConfigError(f"render_mode: invalid value {mode!r}; expected rgb_array or None")
    return mode


def _needs_reset(state: EnvState | None) -> EnvState:
    if state is None:
        raise ResetNeeded("reset() must come before the first step() or render()")
    return state


def _words(generator: np.random.Generator) -> np.ndarray:
    """64 random bits, uint32 (2,): with 32, two of 100,000 envs would often be equal."""
    return generator.integers(2**32, size=2, dtype=np.uint32)


def to_numpy(tree: Any) -> Any:
    """The leaves as NumPy arrays: copies, because JAX's own buffers are read-only."""
    return jax.tree.map(np.array, jax.device_get(tree))


def _to_python(counts: dict[str, jax.Array]) -> dict[str, int]:
    return {name: int(value) for name, value in jax.device_get(counts).items()}


def _info(counts: dict[str, jax.Array], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Counts in Gymnasium's vector format: each with a mask of the environments it is about."""
    info = {}
    for name, values in jax.device_get(counts).items():
        info[name] = np.where(mask, values, 0).astype(np.int64)
        info[f"_{name}"] = mask.copy()
    return info
