"""The spaces. Source: the specification, "Actions" and "Observations"."""

import dataclasses

import numpy as np
from gymnasium import spaces

from jaxdodge.config import GameConfig
from jaxdodge.sim.actions import DISCRETE_DIRECTIONS, action_size
from jaxdodge.sim.publish import SERVER_BOUND, STANDARD_SIZE, WITH_THROWER_SIZE


def action_space(config: GameConfig) -> spaces.Discrete | spaces.Box:
    """Discrete(5) or Box(-1, 1, (components,))."""
    if config.action_space_type == "discrete":
        return spaces.Discrete(len(DISCRETE_DIRECTIONS))
    return spaces.Box(-1.0, 1.0, (action_size(config.action_space_type),), np.float32)


def observation_space(config: GameConfig) -> spaces.Space:
    """The server's Box(-100, 100), wider if the configured speeds leave it; images Box(0, 255)."""
    actions = action_size(config.action_space_type)
    if config.observation_mode == "topdown":
        channels = (1 if config.image_grayscale else 3) * config.frame_stack
        image = spaces.Box(0, 255, (config.image_obs_height, config.image_obs_width, channels), np.uint8)
        previous = spaces.Box(-1.0, 1.0, (actions,), np.float32)
        both = spaces.Dict({"image": image, "previous_action": previous})
        return both if config.observe_previous_action else image
    size = WITH_THROWER_SIZE if config.observation_mode == "with_thrower" else STANDARD_SIZE
    size = size * config.frame_stack + actions * config.observe_previous_action
    fastest = config.player_speed * (1 + config.sprint_multiplier)
    bound = max(SERVER_BOUND, float(np.nextafter(np.float32(fastest), np.float32(np.inf))))
    return spaces.Box(-bound if fastest > SERVER_BOUND else -SERVER_BOUND, bound, (size,), np.float32)


def published_space(config: GameConfig) -> spaces.Box:
    """What a server publishes of the game: a single observation, without the previous action."""
    space = observation_space(dataclasses.replace(config, frame_stack=1, observe_previous_action=False))
    assert isinstance(space, spaces.Box)
    return space
