"""The gRPC client, over TCP and over Unix sockets. Needs the extra `grpc`."""

import time
from collections.abc import Mapping
from typing import Any

import grpc

from jaxdodge.bevy.client import (
    LARGEST_RESPONSE,
    BadResponseError,
    Client,
    RefusedError,
    ServerError,
    ServerTimeoutError,
    UnreachableError,
)
from jaxdodge.bevy.messages import METHODS, request_message, response_content
from jaxdodge.bevy.responses import MalformedError
from jaxdodge.bevy.rl_env_pb2_grpc import RlEnvironmentStub
from jaxdodge.files import one_line

CHANNEL_OPTIONS = (
    # By default the authority is the path of the Unix socket, which the
    # original's HTTP/2 stack refuses.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", LARGEST_RESPONSE),
    # A shared connection would inherit the reconnection backoff of other channels.
    ("grpc.use_local_subchannel_pool", 1),
)
ERRORS: dict[grpc.StatusCode, type[ServerError]] = {
    grpc.StatusCode.UNAVAILABLE: UnreachableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: ServerTimeoutError,
    grpc.StatusCode.INVALID_ARGUMENT: RefusedError,
}


class GrpcClient(Client):
    """A client of a server's gRPC interface.

    If the connection was lost since the last call, the next one raises
    UnreachableError, as over HTTP.

    Args:
        url: grpc://HOST:PORT or unix:///PATH, for error messages.
        target: HOST:PORT or unix:PATH.
        timeout: seconds for every call.

    Raises:
        ConfigError: invalid timeout.
    """

    def __init__(self, url: str, target: str, timeout: float):
        super().__init__(url, timeout)
        self._target = target
        self._channel: grpc.Channel | None = None
        self._stub: RlEnvironmentStub

    def close(self) -> None:
        """Close the connection; never raises."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _request(self, operation: str, body: Mapping[str, Any] | None, expires: float) -> Mapping[str, Any]:
        request = request_message(operation, body or {})
        if self._channel is None:
            self._channel = grpc.insecure_channel(self._target, CHANNEL_OPTIONS)
            self._stub = RlEnvironmentStub(self._channel)
        elif not _connected(self._channel):
            # The channel would reconnect by itself, perhaps to a server that has been restarted.
            raise UnreachableError(f"{self.url}: {operation}: the server closed the connection")
        try:
            call = getattr(self._stub, METHODS[operation].name)
            response = call(request, timeout=max(0, expires - time.monotonic()))
        except grpc.RpcError as error:
            code, details = error.code(), one_line(error.details() or "")
            kind = ERRORS.get(code, BadResponseError)
            what = {
                ServerTimeoutError: f"no response in {self.timeout:g} s",
                RefusedError: f"refused: {details}",
            }.get(kind, f"{code.name}: {details}"[:300])
            raise kind(f"{self.url}: {operation}: {what}") from None
        try:
            return response_content(response)
        except (ValueError, RecursionError):
            raise MalformedError(
                f"info is {one_line(dict(response.info), 100)}; its values are not JSON"
            ) from None


def _connected(channel: Any) -> bool:
    """Whether a channel that had a connection still has it.

    Not through `subscribe`: its thread fails with a traceback if the channel is closed meanwhile.
    """
    return channel._channel.check_connectivity_state(False) == grpc.ChannelConnectivity.READY.value[0]
