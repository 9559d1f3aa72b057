"""Checks of requests and texts of errors, the same for both transports. Source: `docs/api.md`."""

import difflib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdodge.config import GAME_FIELDS, NOT_SETTABLE, SERVER_FIELDS, GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.files import one_line
from jaxdodge.sim.action_checks import checked_actions
from jaxdodge.sim.actions import COMPONENTS, DISCRETE_DIRECTIONS
from jaxdodge.sim.publish import SERVER_BOUND, STANDARD_SIZE, WITH_THROWER_SIZE

LARGEST_REQUEST = 2**20  # bytes
LONGEST_ERROR = 500  # characters

TEXT_FIELDS = ("action_space_type", "observation_mode")


class RequestError(ValueError):
    """An invalid request: one line with field, value and what is expected. Nothing was applied."""


def error_text(error: Exception) -> str:
    """The text of an error in one line; the middle of a long text is left out."""
    text = one_line(error)
    if len(text) > LONGEST_ERROR:
        text = f"{text[: LONGEST_ERROR // 2]} ... {text[-LONGEST_ERROR // 2 :]}"
    return text


def checked_fields(fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Split the fields of a `configure` into those to set and the names
    that the server does not have.

    Fields of null are not set. Raises RequestError for text where a number belongs;
    `GameConfig` checks the ranges.
    """
    ignored = [name for name in fields if name not in SERVER_FIELDS]
    given = {name: fields[name] for name in SERVER_FIELDS if fields.get(name) is not None}
    for name, value in given.items():
        if isinstance(value, str) and name not in TEXT_FIELDS:
            raise RequestError(f"{name}: invalid value {value!r}; expected {_expected(name)}")
    return given, ignored


def checked_level(level: Any) -> dict[str, Any]:
    """The fields that `set_level` sets; raises RequestError."""
    if level is None:
        raise RequestError(f"level: missing; expected {_expected('level')}")
    return checked_fields({"level": level})[0]


def ignored_text(name: str) -> str:
    """The warning about a name in `configure` that the server does not have."""
    if name in NOT_SETTABLE:
        return f"configure: {name} is ignored: {NOT_SETTABLE[name]}"
    if name in GAME_FIELDS:
        return f"configure: {name} is ignored: no field of the server"
    near = difflib.get_close_matches(name, SERVER_FIELDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return error_text(ConfigError(f"configure: {name!r} is ignored: no such field{hint}"))


def checked_action(action: Any, space: str) -> np.ndarray:
    """Check an action, int32 () or float32 (components,); raises RequestError naming the part."""
    if action is None:
        raise RequestError("action: missing; expected a whole number (discrete), or a list of numbers")
    names = COMPONENTS.get(space, ())
    if isinstance(action, list):
        for index, value in enumerate(action):
            if type(value) not in (int, float):
                name = names[index] if index < len(names) else str(index)
                raise RequestError(
                    f"action ({name}): invalid value {_shown(value)}; expected a number, -1 <= value <= 1"
                )
    elif type(action) is not int or names:
        wanted = (
            f"a list of {len(names)} numbers ({', '.join(names)})"
            if names
            else f"a whole number, 0 <= value <= {len(DISCRETE_DIRECTIONS) - 1}"
        )
        raise RequestError(f"action: invalid value {_shown(action)}; expected {wanted}")
    try:
        return checked_actions(action, space)
    except ValueError as error:
        raise RequestError(str(error)) from None


def observation_space(config: GameConfig) -> dict[str, Any]:
    """shape, dtype, low and high; independent of the configured speeds, as in the original."""
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


def _shown(value: Any) -> str:
    """A value as the client wrote it."""
    return json.dumps(value, ensure_ascii=False, default=repr)


def _expected(name: str) -> str:
    return GameConfig.__dataclass_fields__[name].metadata["rule"].expected()
