"""What both transports share: what is accepted, and the texts of refusals. Source: `docs/api.md`."""

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdodge.config import GAME_FIELDS, NOT_SETTABLE, GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.files import one_line
from jaxdodge.sim.action_checks import checked_actions
from jaxdodge.sim.actions import COMPONENTS, DISCRETE_DIRECTIONS
from jaxdodge.sim.publish import SERVER_BOUND, STANDARD_SIZE, WITH_THROWER_SIZE

LARGEST_REQUEST = 2**20  # bytes
LONGEST_REFUSAL = 500  # characters

# In the order in which they are applied.
CONFIGURE_FIELDS = (
    "level",
    "action_space_type",
    "sprint_multiplier",
    "spawn_angle_degrees",
    "observation_mode",
    "thrower_delay_seconds",
    "image_obs_width",
    "image_obs_height",
    "image_grayscale",
    "collision_penalty",
    "survival_reward",
    "dodge_bonus_threshold",
    "dodge_bonus_multiplier",
    "projectile_speed",
    "projectile_spawn_interval",
    "max_projectiles",
    "player_speed",
)
TEXT_FIELDS = ("action_space_type", "observation_mode")


class RefusedError(ValueError):
    """A refused request: one line with what, the value and what is accepted. Nothing of it was applied."""


def refusal_text(error: Exception) -> str:
    """The one line of a refusal; of a huge value only beginning and end are named."""
    text = one_line(error)
    if len(text) > LONGEST_REFUSAL:
        text = f"{text[: LONGEST_REFUSAL // 2]} ... {text[-LONGEST_REFUSAL // 2 :]}"
    return text


def checked_fields(fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What `configure` shall set, in the order of application, and the names that the server does not know.

    Fields without a value (null) are not set. Raises RefusedError for text where a number belongs; ranges
    are the configuration's to check.
    """
    ignored = [name for name in fields if name not in CONFIGURE_FIELDS]
    given = {name: fields[name] for name in CONFIGURE_FIELDS if fields.get(name) is not None}
    for name, value in given.items():
        if isinstance(value, str) and name not in TEXT_FIELDS:
            raise RefusedError(f"{name}: invalid value {value!r}; expected {_accepted(name)}")
    return given, ignored


def checked_level(level: Any) -> dict[str, Any]:
    """The fields that `set_level` sets; raises RefusedError, and ConfigError when they are set."""
    if level is None:
        raise RefusedError(f"level: missing; expected {_accepted('level')}")
    return checked_fields({"level": level})[0]


def ignored_text(name: str) -> str:
    """What to tell the user of a name in `configure` that the server does not know."""
    if name in NOT_SETTABLE:
        return f"configure: {name} is ignored: {NOT_SETTABLE[name]}"
    if name in GAME_FIELDS:
        return f"configure: {name} is ignored: no field of the server"
    near = difflib.get_close_matches(name, CONFIGURE_FIELDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return refusal_text(ConfigError(f"configure: {name!r} is ignored: no such field{hint}"))


def checked_action(action: Any, space: str) -> np.ndarray:
    """int32 () or float32 (components,); raises RefusedError that names the component."""
    if action is None:
        raise RefusedError("action: missing; expected a whole number (discrete), or a list of numbers")
    names = COMPONENTS.get(space, ())
    if isinstance(action, list):
        for index, value in enumerate(action):
            if type(value) not in (int, float):
                name = names[index] if index < len(names) else str(index)
                raise RefusedError(
                    f"action ({name}): invalid value {value!r}; expected a number, -1 <= value <= 1"
                )
    elif type(action) is not int or names:
        wanted = (
            f"a list of {len(names)} numbers ({', '.join(names)})"
            if names
            else f"a whole number, 0 <= value <= {len(DISCRETE_DIRECTIONS) - 1}"
        )
        raise RefusedError(f"action: invalid value {action!r}; expected {wanted}")
    try:
        return checked_actions(action, space)
    except ValueError as error:
        raise RefusedError(str(error)) from None


def observation_space(config: GameConfig) -> dict[str, Any]:
    """shape, dtype, low and high, as the server states them whatever the speeds are."""
    if config.observation_mode == "topdown":
        channels = 1 if config.image_grayscale else 3
        shape = [config.image_obs_height, config.image_obs_width, channels]
        return {"shape": shape, "dtype": "uint8", "low": 0, "high": 255}
    size = WITH_THROWER_SIZE if config.observation_mode == "with_thrower" else STANDARD_SIZE
    return {"shape": [size], "dtype": "float32", "low": -SERVER_BOUND, "high": SERVER_BOUND}


def action_space(config: GameConfig) -> dict[str, Any]:
    """Discrete with n, or Box with shape, low and high."""
    if config.action_space_type == "discrete":
        return {"type": "Discrete", "n": len(DISCRETE_DIRECTIONS)}
    shape = [len(COMPONENTS[config.action_space_type])]
    return {"type": "Box", "shape": shape, "low": -1.0, "high": 1.0}


def _accepted(name: str) -> str:
    return GameConfig.__dataclass_fields__[name].metadata["rule"].expected()
