"""The HTTP client: one persistent connection, and a timeout for the whole of every call."""

import base64
import binascii
import http.client
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from jaxdodge.bevy.client import (
    LARGEST_RESPONSE,
    BadResponseError,
    Client,
    RefusedError,
    ServerTimeoutError,
    UnreachableError,
)
from jaxdodge.bevy.responses import MalformedError
from jaxdodge.files import error_line, one_line

GET = ("observation_space", "action_space")
WITHOUT_CONTENT = ("configure", "set_level", "start_training", "end_training")


class HttpClient(Client):
    """A client of a server's HTTP interface.

    If the server has closed the connection since the last call, the next one raises
    UnreachableError and sends nothing; the call after that connects again.

    Args:
        url: http://HOST:PORT, for error messages.
        host: name or address; looked up once, here, without a timeout.
        port: TCP port.
        timeout: seconds for every call.

    Raises:
        UnreachableError: no such host.
        ConfigError: invalid timeout.
    """

    def __init__(self, url: str, host: str, port: int, timeout: float):
        super().__init__(url, timeout)
        self._socket: _BoundedSocket | None = None
        try:
            self._addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UnreachableError(f"{url}: {error_line(error)}") from None
        name = f"[{host}]" if ":" in host else host
        self._headers = f"HTTP/1.1\r\nHost: {name}:{port}\r\nContent-Type: application/json\r\n"

    def close(self) -> None:
        """Close the connection; never raises."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _request(self, operation: str, body: Mapping[str, Any] | None, expires: float) -> Mapping[str, Any]:
        method = "GET" if operation in GET else "POST"
        sent = json.dumps(body).encode() if body is not None else b""
        head = f"{method} /{operation} {self._headers}Content-Length: {len(sent)}\r\n\r\n"
        try:
            status, content = self._exchange(method, head.encode() + sent, expires)
        except TimeoutError:
            raise ServerTimeoutError(f"{self.url}: {operation}: no response in {self.timeout:g} s") from None
        except (OSError, http.client.IncompleteRead) as error:
            raise UnreachableError(f"{self.url}: {operation}: {error_line(error)}") from None
        except http.client.HTTPException as error:
            raise MalformedError(f"{operation}: not HTTP: {one_line(repr(error), 300)}") from None
        if status == http.HTTPStatus.BAD_REQUEST:
            raise RefusedError(f"{self.url}: {operation}: refused: {_reason(content)}")
        if status != http.HTTPStatus.OK:
            raise BadResponseError(f"{self.url}: {operation}: status {status}: {_reason(content)}")
        return {} if operation in WITHOUT_CONTENT else _parsed(operation, content)

    def _exchange(self, method: str, request: bytes, expires: float) -> tuple[int, bytes]:
        """Send a request; returns the status and the content of its response."""
        if self._socket is None:
            self._socket = _connected(self._addresses, expires)
        else:
            _check_silent(self._socket)
        self._socket.expires = expires
        self._socket.sendall(request)
        with http.client.HTTPResponse(self._socket, method=method) as response:
            response.begin()
            if response.length is None and not response.chunked:
                # Its end could not be distinguished from a broken connection.
                raise MalformedError("response without Content-Length")
            if (response.length or 0) <= LARGEST_RESPONSE:
                content = response.read(LARGEST_RESPONSE + 1 if response.chunked else None)
            if (response.length or len(content)) > LARGEST_RESPONSE:
                raise MalformedError(f"response of more than {LARGEST_RESPONSE} bytes")
            if response.will_close:
                self.close()
            return response.status, content


class _BoundedSocket(socket.socket):
    """A socket whose waits raise TimeoutError at `expires`, a time of `time.monotonic()`."""

    expires = 0.0

    def sendall(self, data: Any, flags: int = 0) -> None:
        self._bound()
        super().sendall(data, flags)

    def recv_into(self, *arguments: Any) -> int:
        self._bound()
        return super().recv_into(*arguments)

    def connect(self, address: Any) -> None:
        self._bound()
        super().connect(address)

    def _bound(self) -> None:
        left = self.expires - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)


def _connected(addresses: list[Any], expires: float) -> _BoundedSocket:
    """A connection to the first address that accepts one; raises OSError."""
    failure: OSError = ConnectionError("no address")
    for family, kind, protocol, _, address in addresses:
        connection = _BoundedSocket(family, kind, protocol)
        connection.expires = expires
        try:
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
    raise failure


def _check_silent(connection: socket.socket) -> None:
    """Check that the connection is open and that nothing unexpected has arrived."""
    connection.settimeout(0)
    try:
        unexpected = connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return
    if unexpected:
        raise MalformedError("sent data that was not requested")
    raise ConnectionError("the server closed the connection")


def _parsed(operation: str, response: bytes) -> Mapping[str, Any]:
    """The JSON object of a response, its image as bytes."""
    try:
        content = json.loads(response)
    except (ValueError, RecursionError):
        raise MalformedError(f"{operation}: not JSON: {one_line(repr(response), 300)}") from None
    if not isinstance(content, dict):
        raise MalformedError(f"{operation}: not a JSON object: {one_line(repr(response), 300)}")
    image = content.get("image_observation")
    if image is not None:
        try:
            content["image_observation"] = base64.b64decode(image, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise MalformedError(f"{operation}: image_observation is not base64") from None
    return content


def _reason(content: bytes) -> str:
    """The reason given in an error response."""
    try:
        text = json.loads(content)["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        text = content.decode(errors="replace")
    return one_line(text if isinstance(text, str) else repr(text), 300)
