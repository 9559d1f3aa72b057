"""The environment as one of gymnax's own, and registered there."""

from typing import Any

import gymnasium
import gymnax
from gymnax.environments import spaces
from gymnax.environments.environment import Environment

from jaxdodge.config import ENVIRONMENT_ID, GameConfig
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.spaces import action_space, observation_space


class GymnaxDodgeEnv(DodgeEnv, Environment):
    """`DodgeEnv` with what else gymnax 1.0 wants to know of an environment."""

    def __init__(self, config: GameConfig):
        Environment.__init__(self)
        DodgeEnv.__init__(self, config)

    @property
    def name(self) -> str:
        """The registered name."""
        return ENVIRONMENT_ID

    def action_space(self, params: GameParams | None = None) -> spaces.Space:
        """Discrete(5) or Box(-1, 1, (components,))."""
        return _gymnax_space(action_space(self.config))

    def observation_space(self, params: GameParams | None = None) -> spaces.Space:
        """The server's Box(-100, 100), wider if the configured speeds
        leave it; images Box(0, 255).
        """
        return _gymnax_space(observation_space(self.config))


def _gymnax_space(space: gymnasium.Space) -> spaces.Space:
    if isinstance(space, gymnasium.spaces.Dict):
        return spaces.Dict({name: _gymnax_space(inner) for name, inner in space.spaces.items()})
    if isinstance(space, gymnasium.spaces.Discrete):
        return spaces.Discrete(int(space.n))
    assert isinstance(space, gymnasium.spaces.Box)
    return spaces.Box(float(space.low.min()), float(space.high.max()), space.shape, space.dtype)


def _from_fields(**fields: Any) -> GymnaxDodgeEnv:
    return GymnaxDodgeEnv(GameConfig.from_mapping(fields))


# gymnax refuses a second registration, which a reload of this module would be.
if ENVIRONMENT_ID not in gymnax.registered_envs:
    gymnax.register(ENVIRONMENT_ID, _from_fields)
