"""What a server's answers must look like, and the client that checks every one of them.

Both transports hand over answers in one form: the JSON of the HTTP interface, as mappings, except that an
image is bytes. Source: `docs/api.md`.
"""

import abc
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from jaxdodge.bevy.client import ActionSpace, BadResponseError, Client, ObservationSpace, Response
from jaxdodge.config import GAME_FIELDS, NOT_SERVER_FIELDS, NOT_SETTABLE
from jaxdodge.fields import ConfigError, Number, check_names
from jaxdodge.files import one_line

# standard, with_thrower
VECTOR_SIZES = (65, 69)
IMAGE_SIDES = range(32, 513)
IMAGE_CHANNELS = (1, 3)
# What `configure` takes.
SERVER_FIELDS = tuple(
    name for name in GAME_FIELDS if name not in (*NOT_SERVER_FIELDS, *NOT_SETTABLE, "projectile_slots")
)
# The largest image, 512 x 512 x 3, in base64 is a megabyte.
LARGEST_ANSWER = 4 * 2**20
LONGEST_DEADLINE = 86_400.0

Result = TypeVar("Result")


class MalformedError(Exception):
    """What is wrong with an answer, in one line without the URL."""


class CheckedClient(Client):
    """A client that checks every answer; its transport is left to `_ask` and `close`.

    After any error the connection is closed, so that a late answer is never taken for the next one; the
    next call connects again.
    """

    def __init__(self, url: str, deadline: float):
        self.url = url
        self.deadline = Number(float, 0, LONGEST_DEADLINE, above_low=True).check("deadline", deadline)
        self._space: ObservationSpace | None = None

    @abc.abstractmethod
    def _ask(self, operation: str, body: Mapping[str, Any] | None, expires: float) -> Mapping[str, Any]:
        """Send one request and return its answer.

        Args:
            operation: a route of the HTTP interface, without the slash.
            body: its fields, None without any.
            expires: of `time.monotonic()`, by when the answer must be there.

        Raises:
            ServerError: with the URL.
            MalformedError: not an answer of the protocol.
        """

    def observation_space(self) -> ObservationSpace:
        """The space of observations, as configured now."""
        return self._bounded(self._ask_observation_space)

    def action_space(self) -> ActionSpace:
        """The space of actions, as configured now."""
        return self._bounded(lambda expires: read_action_space(self._ask("action_space", None, expires)))

    def reset(self) -> Response:
        """Begin an episode."""
        return self._bounded(lambda expires: self._play("reset", None, expires))

    def step(self, action: Any) -> Response:
        """Send an action: a whole number (discrete), or numbers (components,) in [-1, 1].

        Raises:
            ConfigError: not of that form; whether the numbers are in range is for the server to say.
        """
        body = {"action": _plain_action(action)}
        return self._bounded(lambda expires: self._play("step", body, expires))

    def configure(self, **fields: Any) -> None:
        """Set fields of the game by their server names; raises ConfigError for other names.

        A later frame applies them. Until it is published, answers can still be of the game before, and are a
        BadResponseError where their shapes are others.
        """
        check_names(fields, dict.fromkeys(SERVER_FIELDS, ""), "the server")
        body = {name: _plain_field(name, value) for name, value in fields.items()}
        self._configure("configure", body)

    def set_level(self, level: int) -> None:
        """Select a level: its whole preset."""
        self._configure("set_level", {"level": Number(int, -(2**31), 2**31 - 1).check("level", level)})

    def start_training(self) -> None:
        """Tell the server that a training begins."""
        self._bounded(lambda expires: self._ask("start_training", None, expires))

    def end_training(self) -> None:
        """Tell the server that a training has ended."""
        self._bounded(lambda expires: self._ask("end_training", None, expires))

    def _bounded(self, ask: Callable[[float], Result]) -> Result:
        """Call with the time at which the deadline passes; on any error the connection is closed."""
        try:
            return ask(time.monotonic() + self.deadline)
        except MalformedError as error:
            self._forget()
            raise BadResponseError(f"{self.url}: {error}") from None
        except BaseException:  # Ctrl-C too leaves an answer behind that is nobody's
            self._forget()
            raise

    def _forget(self) -> None:
        self._space = None
        self.close()

    def _configure(self, operation: str, body: Mapping[str, Any]) -> None:
        # A later frame applies this, so the new space is asked for only after the next answer.
        self._space = None
        self._bounded(lambda expires: self._ask(operation, body, expires))

    def _play(self, operation: str, body: Mapping[str, Any] | None, expires: float) -> Response:
        answer = self._ask(operation, body, expires)
        space = self._space or self._ask_observation_space(expires)
        return read_response(answer, space, stepped=operation == "step")

    def _ask_observation_space(self, expires: float) -> ObservationSpace:
        self._space = read_observation_space(self._ask("observation_space", None, expires))
        return self._space


def read_observation_space(answer: Mapping[str, Any]) -> ObservationSpace:
    """The checked space; raises MalformedError."""
    shape, dtype = _whole_numbers("shape", answer.get("shape")), str(answer.get("dtype"))
    vector = len(shape) == 1 and shape[0] in VECTOR_SIZES and dtype == "float32"
    image = len(shape) == 3 and dtype == "uint8"
    image = image and shape[0] in IMAGE_SIDES and shape[1] in IMAGE_SIDES and shape[2] in IMAGE_CHANNELS
    if not (vector or image):
        raise MalformedError(f"observation space {dtype!r} of shape {list(shape)} is none of the protocol's")
    return ObservationSpace(shape, dtype, _number("low", answer), _number("high", answer))


def read_action_space(answer: Mapping[str, Any]) -> ActionSpace:
    """The checked space; raises MalformedError."""
    kind = answer.get("type")
    if kind == "Discrete":
        return ActionSpace(n=_count("n", answer))
    shape = _whole_numbers("shape", answer.get("shape"))
    if kind != "Box" or len(shape) != 1:
        raise MalformedError(f"action space {kind!r} of shape {list(shape)} is none of the protocol's")
    return ActionSpace(shape=shape, low=_number("low", answer), high=_number("high", answer))


def read_response(answer: Mapping[str, Any], space: ObservationSpace, stepped: bool) -> Response:
    """The checked answer to a reset, or to a step if `stepped`; raises MalformedError."""
    info = answer.get("info")
    if not isinstance(info, Mapping):
        raise MalformedError(f"info is {_short(info)}, not a mapping")
    size = 0 if space.dtype == "uint8" else space.shape[0]
    return Response(
        observation=_vector(answer.get("observation"), size),
        image=_image(answer.get("image_observation"), space),
        episode_steps=_count("episode_steps", info),
        projectile_count=_count("projectile_count", info),
        reward=_number("reward", answer) if stepped else 0.0,
        terminated=_flag("done", answer) if stepped else False,
        truncated=_flag("truncated", answer) if stepped else False,
    )


def _vector(values: Any, size: int) -> np.ndarray:
    if not isinstance(values, list) or not {*map(type, values)} <= {int, float}:
        raise MalformedError(f"observation is {_short(values)}, not a list of numbers")
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


def _number(name: str, answer: Mapping[str, Any]) -> float:
    """A finite float32."""
    value = answer.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            with np.errstate(over="ignore"):
                single = float(np.float32(value))
        except OverflowError:
            single = math.inf
        if math.isfinite(single):
            return single
    raise MalformedError(f"{name} is {_short(value)}, not a finite number")


def _flag(name: str, answer: Mapping[str, Any]) -> bool:
    value = answer.get(name)
    if not isinstance(value, bool):
        raise MalformedError(f"{name} is {_short(value)}, not true or false")
    return value


def _count(name: str, answer: Mapping[str, Any]) -> int:
    value = answer.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise MalformedError(f"{name} is {_short(value)}, not a whole number from 0")
    return value


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not {*map(type, values)} <= {int}:
        raise MalformedError(f"{name} is {_short(values)}, not a list of whole numbers")
    return tuple(values)


def _short(value: Any) -> str:
    return one_line(repr(value), 60)


def _plain_action(action: Any) -> int | list[float]:
    try:
        array = np.asarray(action)
    except ValueError:
        array = np.asarray(None)
    if array.ndim == 0 and array.dtype.kind in "iu" and -(2**31) <= array < 2**31:
        return int(array)
    if array.ndim == 1 and array.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if np.isfinite(array).all():
            return array.tolist()
    raise ConfigError(f"action: invalid value {_short(action)}; expected a whole number, or finite numbers")


def _plain_field(name: str, value: Any) -> Any:
    # The server prints this name, and refuses it.
    if name == "action_space_type" and value == "basic_4d_jump":
        return "basic_4d"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}: invalid value {value}; expected a finite number")
    return value
