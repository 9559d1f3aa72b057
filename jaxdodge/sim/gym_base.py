"""What both Gymnasium environments share: configuration, specification, pickling, start of JAX."""

import dataclasses
import inspect
import multiprocessing
import os
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.vector import AsyncVectorEnv
from jax._src.xla_bridge import backends_are_initialized

from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Number
from jaxdodge.render.topdown import LARGEST_SIDE, SMALLEST_SIDE
from jaxdodge.sim.compiled_functions import CompiledFunctions, compiled_functions
from jaxdodge.sim.env import EnvState
from jaxdodge.sim.params import GameParams, game_params

RENDER_MODES = ["rgb_array"]
FORKED = (
    "vectorization_mode: invalid value 'async' where JAX already runs; expected the default (faster), "
    "or vector_kwargs={'context': 'spawn'}"
)
# Whether this process was forked from one in which JAX ran. There, JAX waits forever.
_forked = {"from_jax": False}
os.register_at_fork(after_in_child=lambda: _forked.update(from_jax=backends_are_initialized()))


class GymBase:
    """The base of both environments. They start JAX at their first reset, in `_begun`."""

    metadata: dict[str, Any]
    _functions: CompiledFunctions
    _params: GameParams | None = None
    _keys: Any = None
    _states: Any = None
    _spec: EnvSpec | None = None

    def _configure(
        self,
        render_mode: str | None,
        render_width: int | None,
        render_height: int | None,
        fields: dict[str, Any],
    ) -> None:
        if backends_are_initialized() and _is_for_forked_workers():
            raise RuntimeError(FORKED)
        self.config = GameConfig.from_mapping(fields)
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ConfigError(f"render_mode: invalid value {render_mode!r}; expected rgb_array or None")
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self.config.fps / self.config.frames_per_step}
        side = Number(int, SMALLEST_SIDE, LARGEST_SIDE)
        width, height = render_width, render_height
        if width is None and height is None:
            width, height = self.config.image_obs_width, self.config.image_obs_height
        self._render_size = (
            side.check("render_width", height if width is None else width),
            side.check("render_height", width if height is None else height),
        )
        self._functions = compiled_functions(self.config)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: without what is compiled, and arrays as NumPy's."""
        left_out = {"_functions", "_params"}
        state = {name: value for name, value in vars(self).items() if name not in left_out}
        return {**state, "_keys": to_numpy(self._keys), "_states": to_numpy(self._states)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _functions=compiled_functions(state["config"]))

    @property
    def spec(self) -> EnvSpec | None:
        """Gymnasium's specification; `max_episode_steps` is the game's own limit, in steps."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        # A response from before the action shows the end one step later.
        steps = self.config.max_episode_steps + (self.config.response_frame == 0)
        self._spec = spec and dataclasses.replace(
            spec,
            max_episode_steps=steps,
            kwargs={**spec.kwargs, "max_episode_steps": self.config.max_episode_steps},
        )

    def _begun(self) -> GameParams:
        """The numbers of the game. Starts JAX."""
        if self._params is None:
            if _forked["from_jax"]:
                raise RuntimeError(FORKED)
            self._params = game_params(self.config)
        return self._params


def _is_for_forked_workers() -> bool:
    """Whether an environment is being made for an `AsyncVectorEnv` that is about to fork.

    It makes one in its own process first. Refused there, no worker writes its traceback.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not AsyncVectorEnv.__init__.__code__:
        frame = frame.f_back
    return (
        frame is not None
        and multiprocessing.get_context(frame.f_locals["context"]).get_start_method() == "fork"
    )


def needs_reset(state: EnvState | None) -> EnvState:
    """The state; raises ResetNeeded if there is none."""
    if state is None:
        raise ResetNeeded("reset() must come before the first step() or render()")
    return state


def warn_no_image() -> None:
    """What `render` says without a render mode."""
    gymnasium.logger.warn('render() does nothing without render_mode="rgb_array"')


def to_numpy(tree: Any) -> Any:
    """The leaves as NumPy arrays: copies, because JAX's own buffers are read-only."""
    return jax.tree.map(np.array, jax.device_get(tree))
