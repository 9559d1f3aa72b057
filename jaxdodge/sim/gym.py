"""The game as Gymnasium environments: one (`gymnasium.make`) or many at once
(`gymnasium.make_vec`).

Both run the same functions of one environment, on `DodgeEnv`. With the same seed and actions, a
row of the vector environment and a single environment give the same bits. Constructing one does
not start JAX, so that the workers of `AsyncVectorEnv` can be forked.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jaxdodge.fields import ConfigError, Number
from jaxdodge.sim.action_checks import checked_actions
from jaxdodge.sim.compiled_functions import render_many
from jaxdodge.sim.env import EnvState
from jaxdodge.sim.gym_base import RENDER_MODES, GymBase, needs_reset, to_numpy, warn_no_image
from jaxdodge.sim.spaces import action_space, observation_space


class DodgeGymEnv(GymBase, gymnasium.Env):  # type: ignore[misc]
    """One environment. `gymnasium.make("jaxdodge/Dodge-v0", ...)` after `import jaxdodge`.

    Args:
        render_mode: None or "rgb_array"; then `render` gives the top-down image, uint8 (height,
            width, 3).
        render_width, render_height: pixels of that image, 32 to 512; default: those of the image
            observation, or a square if one is given.
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

    def __init__(
        self,
        render_mode: str | None = None,
        render_width: int | None = None,
        render_height: int | None = None,
        **fields: Any,
    ):
        self._configure(render_mode, render_width, render_height, fields)
        self.observation_space, self.action_space = observation_space(self.config), action_space(self.config)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The first observation and info of an episode; `options` has no effect."""
        params = self._begun()
        super().reset(seed=seed)
        fresh = seed is not None or self._states is None
        words = _words(self.np_random) if fresh else np.zeros(2, np.uint32)
        if self._states is None:
            self._keys, self._states = self._functions.unset()
        self._keys, self._states, (observation, counts) = self._functions.reset(
            self._keys, self._states, words, fresh, True, params
        )
        return to_numpy(observation), _to_python(counts)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Observation, reward, terminated, truncated, info. Raises ValueError, ResetNeeded."""
        state = needs_reset(self._states)
        checked = checked_actions(action, self.config.action_space_type)
        self._keys, self._states, (observation, counts), flags = self._functions.step(
            self._keys, state, checked, self._begun()
        )
        reward, terminated, truncated = jax.device_get(flags)
        info = _to_python(counts)
        return to_numpy(observation), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """uint8 (height, width, 3); None and a warning without a
        render mode. Raises ResetNeeded.
        """
        if self.render_mode is None:
            warn_no_image()
            return None
        state = jax.tree.map(lambda leaf: leaf[None], needs_reset(self._states))
        return to_numpy(render_many(state, *self._render_size))[0]


class DodgeVectorEnv(GymBase, VectorEnv):  # type: ignore[misc]
    """Many at once, compiled: `gymnasium.make_vec("jaxdodge/Dodge-v0", num_envs=...)`.

    Args:
        num_envs: number of environments.
        render_mode, render_width, render_height: as for `DodgeGymEnv`; `render` gives a tuple of
            images.
        autoreset_mode: Gymnasium's `AutoresetMode`, or its value.
        **fields: any field of `GameConfig`; ConfigError refuses the others.

    In the mode SAME_STEP a step that ends an episode returns the first observation of the next
    one, and `info["final_obs"]` and `info["final_info"]` hold the last ones of the old, where the
    masks `_final_obs` and `_final_info` are true. In NEXT_STEP the next step resets instead of
    acting, with reward 0. In DISABLED `reset` with `reset_mask` must come before the next step.
    Rewards are float64 (num_envs,), flags bool (num_envs,).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": RENDER_MODES,
        "render_fps": 60,
    }

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        render_width: int | None = None,
        render_height: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **fields: Any,
    ):
        self._configure(render_mode, render_width, render_height, fields)
        self.num_envs = Number(int, 1).check("num_envs", num_envs)
        if autoreset_mode not in (
            modes := {key: mode for mode in AutoresetMode for key in (mode, mode.value)}
        ):
            expected = ", ".join(f"AutoresetMode.{mode.name}" for mode in AutoresetMode)
            raise ConfigError(f"autoreset_mode: invalid value {autoreset_mode!r}; expected {expected}")
        self.autoreset_mode = self.metadata["autoreset_mode"] = modes[autoreset_mode]
        self.single_observation_space = observation_space(self.config)
        self.single_action_space = action_space(self.config)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._ended = np.zeros(self.num_envs, bool)

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
        params = self._begun()
        # Environments that have never been reset begin, whatever the mask says.
        mask = mask | (self._states is None)
        fresh = mask & [self._states is None or own is not None for own in seeds]
        words = np.zeros((self.num_envs, 2), np.uint32)
        for row, own in enumerate(seeds):
            if fresh[row]:
                words[row] = _words(self.np_random if own is None else seeding.np_random(own)[0])
        if self._states is None:
            self._keys, self._states = self._functions.unset(self.num_envs)
        self._keys, self._states, (observations, counts) = self._functions.reset_many(
            self._keys, self._states, words, fresh, mask, params
        )
        self._ended = self._ended & ~mask
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
        states, params = needs_reset(self._states), self._begun()
        checked = checked_actions(actions, self.config.action_space_type, self.num_envs)
        info: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            *stepped, flags, after = self._functions.step_and_reset_many(self._keys, states, checked, params)
        else:
            if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
                row = np.flatnonzero(self._ended)[0]
                raise ResetNeeded(
                    f"environment {row}: its episode has ended; expected reset with a reset_mask"
                )
            *stepped, flags = self._functions.step_or_reset_many(
                self._keys, states, checked, self._ended, params
            )
        self._keys, self._states, (observations, counts) = stepped
        rewards, terminations, truncations = to_numpy(flags)
        ended = terminations | truncations
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._ended = ended
        elif ended.any():
            info.update(self._final(after, ended))
        info.update(_info(counts, np.ones(self.num_envs, bool)))
        return to_numpy(observations), rewards.astype(np.float64), terminations, truncations, info

    def _final(self, after: EnvState, ended: np.ndarray) -> dict[str, Any]:
        observations, counts = self._functions.see_many(after, self._begun())
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
            warn_no_image()
            return None
        return tuple(to_numpy(render_many(needs_reset(self._states), *self._render_size)))


def _words(generator: np.random.Generator) -> np.ndarray:
    """64 random bits, uint32 (2,): with 32, two of 100,000 envs would often be equal."""
    return generator.integers(2**32, size=2, dtype=np.uint32)


def _to_python(counts: dict[str, jax.Array]) -> dict[str, int]:
    return {name: int(value) for name, value in jax.device_get(counts).items()}


def _info(counts: dict[str, jax.Array], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Counts in Gymnasium's vector format: each with a mask of the environments it is about."""
    info = {}
    for name, values in jax.device_get(counts).items():
        info[name] = np.where(mask, values, 0).astype(np.int64)
        info[f"_{name}"] = mask.copy()
    return info
