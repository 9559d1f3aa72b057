"""The environment as one of gymnax's own. `import jaxdodge` registers it there."""

from functools import partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
from gymnax.environments import spaces
from gymnax.environments.environment import Environment

from jaxdodge.config import ENVIRONMENT_ID, GameConfig
from jaxdodge.sim.env import DodgeEnv, EnvState
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.spaces import action_space, observation_space

# What the info of gymnax's own environments holds. Its wrappers scan over it, so `reset`, which
# they give these names too, and `step` must agree.
INFO = ("discount", "terminated", "truncated", "final_observation")
_LARGEST = float(jnp.finfo(jnp.float32).max)


class GymnaxDodgeEnv(DodgeEnv, Environment):
    """`DodgeEnv` with what else gymnax 1.0 wants to know of an environment."""

    def __init__(self, config: GameConfig):
        Environment.__init__(self)
        DodgeEnv.__init__(self, config)

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: jax.Array, state: EnvState, action: jax.Array, params: GameParams | None = None
    ) -> tuple[jax.Array, EnvState, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """`DodgeEnv.step`, whose info holds `INFO`; `counts` gives the counts of a state."""
        *rest, info = DodgeEnv.step(self, key, state, action, params)
        return (*rest, {name: info[name] for name in INFO})  # type: ignore[return-value]

    @property
    def name(self) -> str:
        """The registered name."""
        return ENVIRONMENT_ID

    @property
    def obs_shape(self) -> Any:
        """Shape of the observation; by name, where it is a dict."""
        space = observation_space(self.config)
        if isinstance(space, gymnasium.spaces.Dict):
            return {name: inner.shape for name, inner in space.spaces.items()}
        return space.shape

    def action_space(self, params: GameParams | None = None) -> spaces.Space:
        """Discrete(5) or Box(-1, 1, (components,))."""
        return _gymnax_space(action_space(self.config))

    def observation_space(self, params: GameParams | None = None) -> spaces.Space:
        """The server's Box(-100, 100), wider if the configured speeds
        leave it; images Box(0, 255).
        """
        return _gymnax_space(observation_space(self.config))

    def state_space(self, params: GameParams | None = None) -> spaces.Dict:
        """The fields of `EnvState` as a Dict of Dicts; every number of a leaf's type is in it."""
        return _state_space(jax.eval_shape(self.start))


def _gymnax_space(space: gymnasium.Space) -> spaces.Space:
    if isinstance(space, gymnasium.spaces.Dict):
        return spaces.Dict({name: _gymnax_space(inner) for name, inner in space.spaces.items()})
    if isinstance(space, gymnasium.spaces.Discrete):
        return spaces.Discrete(int(space.n))
    assert isinstance(space, gymnasium.spaces.Box)
    return spaces.Box(float(space.low.min()), float(space.high.max()), space.shape, space.dtype)


def _state_space(tree: Any) -> spaces.Space:
    if not isinstance(tree, jax.ShapeDtypeStruct):
        names = getattr(tree, "_fields", None) or vars(tree)
        return spaces.Dict({name: _state_space(getattr(tree, name)) for name in names})
    if tree.dtype == bool:
        return spaces.Box(0, 1, tree.shape, tree.dtype)
    # Half of it, because `sample` computes the width of the interval.
    largest = _LARGEST / 2 if jnp.issubdtype(tree.dtype, jnp.floating) else jnp.iinfo(tree.dtype).max
    return spaces.Box(-largest, largest, tree.shape, tree.dtype)
