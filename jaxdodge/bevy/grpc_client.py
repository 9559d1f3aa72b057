"""The gRPC client, over TCP and over Unix sockets. Needs the extra `grpc`."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from jaxdodge.bevy import rl_env_pb2
from jaxdodge.bevy.answers import LARGEST_ANSWER, CheckedClient, MalformedError
from jaxdodge.bevy.client import BadResponseError, DeadlineError, RefusedError, ServerError, UnreachableError
from jaxdodge.bevy.rl_env_pb2_grpc import RlEnvironmentStub
from jaxdodge.fields import ConfigError
from jaxdodge.files import one_line

CHANNEL_OPTIONS = (
    # Without it the path of a Unix socket is sent as the authority, which the server's HTTP/2 stack refuses.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", LARGEST_ANSWER),
    # A channel of our own: another one's failed attempts must not make this one wait.
    ("grpc.use_local_subchannel_pool", 1),
)
ERRORS: dict[grpc.StatusCode, type[ServerError]] = {
    grpc.StatusCode.UNAVAILABLE: UnreachableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.INVALID_ARGUMENT: RefusedError,
}


class GrpcClient(CheckedClient):
    """A client of a server's gRPC interface.

    A connection that was lost since the last call is an UnreachableError at the next one, as over HTTP.

    Args:
        url: grpc://HOST:PORT or unix:///PATH, for error messages.
        target: HOST:PORT or unix:PATH.
        deadline: seconds for every call.

    Raises:
        ConfigError: a refused deadline.
    """

    def __init__(self, url: str, target: str, deadline: float):
        super().__init__(url, deadline)
        self._target = target
        self._channel: grpc.Channel | None = None
        self._stub: RlEnvironmentStub
        self._lost: threading.Event

    def close(self) -> None:
        """Close the connection; never raises."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _ask(self, operation: str, body: Mapping[str, Any] | None, expires: float) -> Mapping[str, Any]:
        request = _request(operation, body or {})
        if self._channel is None:
            self._channel = grpc.insecure_channel(self._target, CHANNEL_OPTIONS)
            self._stub = RlEnvironmentStub(self._channel)
            self._lost = _lost(self._channel)
        elif self._lost.is_set():
            # The channel would connect again by itself, to a server that may have been restarted.
            raise UnreachableError(f"{self.url}: {operation}: the server closed the connection")
        method, read = METHODS[operation]
        try:
            answer = getattr(self._stub, method)(request, timeout=max(0, expires - time.monotonic()))
        except grpc.RpcError as error:
            code, details = error.code(), one_line(error.details() or "")
            kind = ERRORS.get(code, BadResponseError)
            what = {
                DeadlineError: f"no answer in {self.deadline:g} s",
                RefusedError: f"refused: {details}",
            }.get(kind, f"{code.name}: {details}"[:300])
            raise kind(f"{self.url}: {operation}: {what}") from None
        return read(answer)


def _lost(channel: grpc.Channel) -> threading.Event:
    """Set as soon as a channel has lost the connection that it once had."""
    connected, lost = threading.Event(), threading.Event()

    def changed(state: grpc.ChannelConnectivity) -> None:
        if state == grpc.ChannelConnectivity.READY:
            connected.set()
        elif connected.is_set():
            lost.set()

    channel.subscribe(changed)
    return lost


def _request(operation: str, body: Mapping[str, Any]) -> Any:
    """The message of a request; raises ConfigError for a value that no message can hold."""
    method, _ = METHODS[operation]
    message = getattr(rl_env_pb2, method.removeprefix("Get") + "Request")
    if operation == "step":
        action = body["action"]
        if isinstance(action, int):
            return message(discrete_action=action)
        return message(continuous_action=rl_env_pb2.ContinuousAction(values=action))
    request = message()
    for name, value in body.items():
        try:
            setattr(request, name, value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{name}: invalid value {value!r}; expected what the protocol's field holds"
            ) from None
    return request


def _nothing(answer: Any) -> dict[str, Any]:
    return {}


def _observation_space(answer: rl_env_pb2.ObservationSpace) -> dict[str, Any]:
    return {"shape": [*answer.shape], "dtype": answer.dtype, "low": answer.low, "high": answer.high}


def _action_space(answer: rl_env_pb2.ActionSpace) -> dict[str, Any]:
    if answer.WhichOneof("space_type") == "discrete":
        return {"type": "Discrete", "n": answer.discrete.n}
    box = answer.box
    return {"type": "Box", "shape": [*box.shape], "low": box.low, "high": box.high}


def _reset(answer: rl_env_pb2.ResetResponse) -> dict[str, Any]:
    try:
        info = {name: json.loads(value) for name, value in answer.info.items()}
    except (ValueError, RecursionError):
        raise MalformedError(f"info is {str(dict(answer.info))[:100]}; its values are not JSON") from None
    return {
        "observation": [*answer.observation],
        "image_observation": answer.image_observation or None,
        "info": info,
    }


def _step(answer: rl_env_pb2.StepResponse) -> dict[str, Any]:
    outcome = {"reward": answer.reward, "done": answer.done, "truncated": answer.truncated}
    return _reset(answer) | outcome  # type: ignore[arg-type]


# Of each operation the method, and how its answer reads as the JSON of the HTTP interface.
METHODS: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "observation_space": ("GetObservationSpace", _observation_space),
    "action_space": ("GetActionSpace", _action_space),
    "reset": ("Reset", _reset),
    "step": ("Step", _step),
    "configure": ("Configure", _nothing),
    "set_level": ("SetLevel", _nothing),
    "start_training": ("StartTraining", _nothing),
    "end_training": ("EndTraining", _nothing),
}
