"""The client of a game server for every transport, and its errors. Source: `docs/api.md`."""

import abc
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from jaxdodge.bevy.responses import (
    ActionSpace,
    MalformedError,
    ObservationSpace,
    Response,
    read_action_space,
    read_observation_space,
    read_response,
    short,
)
from jaxdodge.config import SERVER_FIELDS
from jaxdodge.fields import ConfigError, Number, check_names

LARGEST_RESPONSE = 4 * 2**20  # bytes; the largest image, 512 x 512 x 3, takes one MB in base64
LONGEST_TIMEOUT = 86_400.0

Result = TypeVar("Result")


class ServerError(Exception):
    """A failure of a server, in one line that names its URL."""


class UnreachableError(ServerError):
    """Nothing listens, or the connection broke. Whether a request was carried out is unknown."""


class ServerTimeoutError(ServerError):
    """No complete response in time. Whether the request was carried out is unknown."""


class RefusedError(ServerError):
    """The server refused the request with a reason; it applied nothing."""


class BadResponseError(ServerError):
    """A response that violates the protocol, or does not fit the announced space."""


class Client(abc.ABC):
    """A connection to one game server. A transport implements `_request` and `close`.

    Every method returns or raises a ServerError within the timeout, and every response is
    checked. No request is repeated: after an UnreachableError or a ServerTimeoutError it is
    unknown whether the server carried out the request, and a step must not be taken twice.
    Every error closes the connection, so that a late response is never taken for the next
    one; the next call connects again.

    A client is used by one thread at a time.
    """

    def __init__(self, url: str, timeout: float):
        self.url = url
        self.timeout = Number(float, 0, LONGEST_TIMEOUT, above_low=True).check("timeout", timeout)
        self._space: ObservationSpace | None = None

    @abc.abstractmethod
    def _request(self, operation: str, body: Mapping[str, Any] | None, expires: float) -> Mapping[str, Any]:
        """Send one request and return the content of its response.

        Args:
            operation: route of the HTTP interface, without the slash.
            body: fields of the request, None for no body.
            expires: time of `time.monotonic()` at which the call times out.

        Raises:
            ServerError: the call failed; the message names the URL.
            MalformedError: the response violates the protocol.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection; never raises."""

    def observation_space(self) -> ObservationSpace:
        """The space of observations under the current configuration."""
        return self._call(self._request_observation_space)

    def action_space(self) -> ActionSpace:
        """The space of actions under the current configuration."""
        return self._call(lambda expires: read_action_space(self._request("action_space", None, expires)))

    def reset(self) -> Response:
        """Begin an episode."""
        return self._call(lambda expires: self._play("reset", None, expires))

    def step(self, action: Any) -> Response:
        """Send an action: a whole number (discrete), or numbers (components,) in [-1, 1].

        Raises:
            ConfigError: the action has another form; the server checks the range.
        """
        body = {"action": _plain_action(action)}
        return self._call(lambda expires: self._play("step", body, expires))

    def configure(self, **fields: Any) -> None:
        """Set fields of the game by their server names; raises ConfigError for other names.

        The server applies them in a later frame. Until that frame is published, responses can still
        belong to the previous configuration; if their shape is wrong, they raise BadResponseError.
        """
        check_names(fields, dict.fromkeys(SERVER_FIELDS, ""), "the server")
        body = {name: _plain_field(name, value) for name, value in fields.items()}
        self._configure("configure", body)

    def set_level(self, level: int) -> None:
        """Select a level, which sets its whole preset."""
        self._configure("set_level", {"level": Number(int, -(2**31), 2**31 - 1).check("level", level)})

    def start_training(self) -> None:
        """Tell the server that training begins."""
        self._call(lambda expires: self._request("start_training", None, expires))

    def end_training(self) -> None:
        """Tell the server that training has ended."""
        self._call(lambda expires: self._request("end_training", None, expires))

    def _call(self, request: Callable[[float], Result]) -> Result:
        """Call with the time at which the timeout expires; on any error, close the connection."""
        try:
            return request(time.monotonic() + self.timeout)
        except MalformedError as error:
            self._disconnect()
            raise BadResponseError(f"{self.url}: {error}") from None
        except BaseException:  # Ctrl-C too can leave a response unread.
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        self._space = None
        self.close()

    def _configure(self, operation: str, body: Mapping[str, Any]) -> None:
        # A later frame applies it, so the new space is requested only after the next response.
        self._space = None
        self._call(lambda expires: self._request(operation, body, expires))

    def _play(self, operation: str, body: Mapping[str, Any] | None, expires: float) -> Response:
        content = self._request(operation, body, expires)
        space = self._space or self._request_observation_space(expires)
        return read_response(content, space, stepped=operation == "step")

    def _request_observation_space(self, expires: float) -> ObservationSpace:
        self._space = read_observation_space(self._request("observation_space", None, expires))
        return self._space


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
    raise ConfigError(f"action: invalid value {short(action)}; expected a whole number, or finite numbers")


def _plain_field(name: str, value: Any) -> Any:
    # The original server prints this name, but refuses it.
    if name == "action_space_type" and value == "basic_4d_jump":
        return "basic_4d"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}: invalid value {value}; expected a finite number")
    return value
