"""The vector environment in the form of Stable-Baselines3, which sbx uses too."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from jaxdodge.sim.gym import DodgeVectorEnv

# The wrapper type and indices of SB3's signatures.
Indices = int | Sequence[int] | None


class DodgeVecEnv(VecEnv):
    """A `VecEnv` of Stable-Baselines3 that steps all environments in one compiled call.

    Args:
        num_envs, render_mode, render_width, render_height, fields: as for `DodgeVectorEnv`.

    Equal to SB3's `DummyVecEnv` over single environments, bit for bit: rewards are float32, and
    the info of an episode's last step holds `terminal_observation`, `TimeLimit.truncated` and the
    counts. The infos of other steps are empty but for `TimeLimit.truncated`.
    """

    def __init__(self, num_envs: int = 1, **fields: Any):
        self._envs = DodgeVectorEnv(num_envs, **fields)
        self._rows = [_Row(self._envs, index) for index in range(num_envs)]
        self._actions: Any = None
        super().__init__(num_envs, self._envs.single_observation_space, self._envs.single_action_space)
        self.metadata["render_fps"] = self._envs.metadata["render_fps"]

    def reset(self) -> Any:
        """First observations; the seeds of `seed` are used once, options have no effect."""
        observations, info = self._envs.reset(seed=self._seeds)
        self.reset_infos = [_row_info(info, index) for index in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations, rewards, ends of episodes, infos."""
        observations, rewards, terminated, truncated, info = self._envs.step(self._actions)
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        for index in np.flatnonzero(ended).tolist():
            infos[index] = {
                **_row_info(info["final_info"], index),
                "TimeLimit.truncated": bool(truncated[index] and not terminated[index]),
                "terminal_observation": info["final_obs"][index],
            }
            self.reset_infos[index] = _row_info(info, index)
        return observations, rewards.astype(np.float32), ended, infos

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """An image of each environment; None without a render mode."""
        return self._envs.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of each environment: of the environment itself, or a field of its game."""
        return [getattr(row, attr_name) for row in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the user's own; raises AttributeError for one of the game."""
        for row in self._chosen(indices):
            setattr(row, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Indices = None, **more: Any) -> list:
        """Call a method of each environment, such as `render` or `has_wrapper_attr`."""
        return [getattr(row, method_name)(*method_args, **more) for row in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Indices = None) -> list[bool]:
        """False: single environments have no wrappers; wrap the whole, as with `VecMonitor`."""
        return [False for _ in self._chosen(indices)]

    def _chosen(self, indices: Indices) -> list["_Row"]:
        return [self._rows[index] for index in self._get_indices(indices)]


class _Row:
    """One environment of many, for `get_attr`, `set_attr` and `env_method`."""

    def __init__(self, envs: DodgeVectorEnv, index: int):
        vars(self).update(_envs=envs, _index=index)

    @property
    def unwrapped(self) -> "_Row":
        return self

    @property
    def observation_space(self) -> Any:
        return self._envs.single_observation_space

    @property
    def action_space(self) -> Any:
        return self._envs.single_action_space

    def render(self) -> np.ndarray | None:
        images = self._envs.render()
        return images and images[self._index]

    def get_wrapper_attr(self, name: str) -> Any:
        return getattr(self, name)

    def has_wrapper_attr(self, name: str) -> bool:
        return hasattr(self, name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        envs = vars(self)["_envs"]
        return getattr(envs.config, name) if hasattr(envs.config, name) else getattr(envs, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in vars(self) and hasattr(self, name):
            raise AttributeError(f"{name}: cannot be changed; expected new environments")
        vars(self)[name] = value


def _row_info(info: dict[str, Any], index: int) -> dict[str, Any]:
    """The counts of one environment; Gymnasium marks masks by an underscore."""
    return {
        name: int(values[index])
        for name, values in info.items()
        if not name.startswith(("_", "final_")) and info[f"_{name}"][index]
    }
