"""Checks of a server's responses.

Both transports return a response in one form: the JSON object of the HTTP interface, in which an
image is bytes. Source: `docs/api.md`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdodge.files import one_line

# standard, with_thrower
VECTOR_SIZES = (65, 69)
IMAGE_SIDES = range(32, 513)
IMAGE_CHANNELS = (1, 3)


class MalformedError(Exception):
    """What is wrong with a response, in one line without the URL."""


@dataclasses.dataclass(frozen=True)
class ObservationSpace:
    """The space of a server's observations, as it reports it."""

    shape: tuple[int, ...]
    """(65,), (69,) or (height, width, channels)."""
    dtype: str
    """float32 or uint8."""
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class ActionSpace:
    """The action space that a server reports: one of `n`, or `shape` numbers from low to high."""

    n: int | None = None
    shape: tuple[int, ...] = ()
    low: float = -1.0
    high: float = 1.0


@dataclasses.dataclass(frozen=True)
class Response:
    """The response to a reset or a step. For a reset, the reward is 0 and the flags are False."""

    observation: np.ndarray
    """float32 (65,) or (69,); (0,) in the mode topdown."""
    image: np.ndarray | None
    """uint8 (height, width, channels) in the mode topdown, else None."""
    episode_steps: int
    projectile_count: int
    reward: float = 0.0
    """Value of the float32 that the server sent."""
    terminated: bool = False
    """The server's `done`."""
    truncated: bool = False

    @property
    def published(self) -> np.ndarray:
        """The image in the mode topdown, else the observation."""
        return self.observation if self.image is None else self.image


def read_observation_space(content: Mapping[str, Any]) -> ObservationSpace:
    """Check the response to `observation_space`; raises MalformedError."""
    shape, dtype = _whole_numbers("shape", content.get("shape")), str(content.get("dtype"))
    vector = len(shape) == 1 and shape[0] in VECTOR_SIZES and dtype == "float32"
    image = len(shape) == 3 and dtype == "uint8"
    image = image and shape[0] in IMAGE_SIDES and shape[1] in IMAGE_SIDES and shape[2] in IMAGE_CHANNELS
    if not (vector or image):
        raise MalformedError(f"observation space {dtype!r} of shape {list(shape)} is none of the protocol's")
    return ObservationSpace(shape, dtype, _number("low", content), _number("high", content))


def read_action_space(content: Mapping[str, Any]) -> ActionSpace:
    """Check the response to `action_space`; raises MalformedError."""
    kind = content.get("type")
    if kind == "Discrete":
        return ActionSpace(n=_count("n", content))
    shape = _whole_numbers("shape", content.get("shape"))
    if kind != "Box" or len(shape) != 1:
        raise MalformedError(f"action space {kind!r} of shape {list(shape)} is none of the protocol's")
    return ActionSpace(shape=shape, low=_number("low", content), high=_number("high", content))


def read_response(content: Mapping[str, Any], space: ObservationSpace, stepped: bool) -> Response:
    """Check the response to a reset, or to a step if `stepped`; raises MalformedError."""
    info = content.get("info")
    if not isinstance(info, Mapping):
        raise MalformedError(f"info is {short(info)}, not a mapping")
    size = 0 if space.dtype == "uint8" else space.shape[0]
    return Response(
        observation=_vector(content.get("observation"), size),
        image=_image(content.get("image_observation"), space),
        episode_steps=_count("episode_steps", info),
        projectile_count=_count("projectile_count", info),
        reward=_number("reward", content) if stepped else 0.0,
        terminated=_flag("done", content) if stepped else False,
        truncated=_flag("truncated", content) if stepped else False,
    )


def _vector(values: Any, size: int) -> np.ndarray:
    if not isinstance(values, list) or not {*map(type, values)} <= {int, float}:
        raise MalformedError(f"observation is {short(values)}, not a list of numbers")
    if len(values) != size:
        raise MalformedError(f"observation has {len(values)} numbers; the announced space has {size}")
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, np.float32)
    except OverflowError:
        raise MalformedError("observation holds a number beyond float32") from None
    if not np.isfinite(vector).all():
        index = int(np.argmin(np.isfinite(vector)))
        raise MalformedError(f"observation[{index}] is {values[index]}, not a finite float32")
    return vector


def _image(data: bytes | None, space: ObservationSpace) -> np.ndarray | None:
    if space.dtype != "uint8":
        if data is not None:
            raise MalformedError(f"an image of {len(data)} bytes came; the announced space has none")
        return None
    if data is None:
        raise MalformedError("image_observation is missing")
    size = math.prod(space.shape)
    if len(data) != size:
        raise MalformedError(f"image_observation has {len(data)} bytes; the announced space has {size}")
    return np.frombuffer(data, np.uint8).reshape(space.shape)


def _number(name: str, content: Mapping[str, Any]) -> float:
    """A finite float32."""
    value = content.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            with np.errstate(over="ignore"):
                single = float(np.float32(value))
        except OverflowError:
            single = math.inf
        if math.isfinite(single):
            return single
    raise MalformedError(f"{name} is {short(value)}, not a finite number")


def _flag(name: str, content: Mapping[str, Any]) -> bool:
    value = content.get(name)
    if not isinstance(value, bool):
        raise MalformedError(f"{name} is {short(value)}, not true or false")
    return value


def _count(name: str, content: Mapping[str, Any]) -> int:
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise MalformedError(f"{name} is {short(value)}, not a whole number from 0")
    return value


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not {*map(type, values)} <= {int}:
        raise MalformedError(f"{name} is {short(values)}, not a list of whole numbers")
    return tuple(values)


def short(value: Any) -> str:
    """A value as text of one line, at most 60 characters of it."""
    return one_line(repr(value), 60)
