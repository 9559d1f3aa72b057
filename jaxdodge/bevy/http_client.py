"""The HTTP client: one connection kept alive, and a deadline that bounds the whole of every call."""

import base64
import binascii
import http.client
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from jaxdodge.bevy.answers import LARGEST_ANSWER, CheckedClient, MalformedError
from jaxdodge.bevy.client import BadResponseError, DeadlineError, RefusedError, UnreachableError
from jaxdodge.files import error_line, one_line

READ = ("observation_space", "action_space")
# Their answers have no content.
SILENT = ("configure", "set_level", "start_training", "end_training")


class HttpClient(CheckedClient):
    """A client of a server's HTTP interface.

    A connection that the server has closed since the last call is an UnreachableError at the next one, which
    sends nothing; the call after that connects again.

    Args:
        url: http://HOST:PORT, for error messages.
        host: name or address; looked up once, here, which no deadline bounds.
        port: of TCP.
        deadline: seconds for every call.

    Raises:
        UnreachableError: no such host.
        ConfigError: a refused deadline.
    """

    def __init__(self, url: str, host: str, port: int, deadline: float):
        super().__init__(url, deadline)
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

    def _ask(self, operation: str, body: Mapping[str, Any] | None, expires: float) -> Mapping[str, Any]:
        method = "GET" if operation in READ else "POST"
        content = json.dumps(body).encode() if body is not None else b""
        head = f"{method} /{operation} {self._headers}Content-Length: {len(content)}\r\n\r\n"
        try:
            status, answer = self._exchange(method, head.encode() + content, expires)
        except TimeoutError:
            raise DeadlineError(f"{self.url}: {operation}: no answer in {self.deadline:g} s") from None
        except (OSError, http.client.IncompleteRead) as error:
            raise UnreachableError(f"{self.url}: {operation}: {error_line(error)}") from None
        except http.client.HTTPException as error:
            raise MalformedError(f"{operation}: not HTTP: {one_line(repr(error), 300)}") from None
        if status == http.HTTPStatus.BAD_REQUEST:
            raise RefusedError(f"{self.url}: {operation}: refused: {_reason(answer)}")
        if status != http.HTTPStatus.OK:
            raise BadResponseError(f"{self.url}: {operation}: status {status}: {_reason(answer)}")
        return {} if operation in SILENT else _content(operation, answer)

    def _exchange(self, method: str, request: bytes, expires: float) -> tuple[int, bytes]:
        """Send a request, return status and content of its answer."""
        if self._socket is None:
            self._socket = _connected(self._addresses, expires)
        else:
            _refuse_unasked(self._socket)
        self._socket.expires = expires
        self._socket.sendall(request)
        with http.client.HTTPResponse(self._socket, method=method) as response:
            response.begin()
            if response.length is None and not response.chunked:
                # Its end could not be told from a connection that breaks.
                raise MalformedError("answered without Content-Length")
            if (response.length or 0) <= LARGEST_ANSWER:
                answer = response.read(LARGEST_ANSWER + 1 if response.chunked else None)
            if (response.length or len(answer)) > LARGEST_ANSWER:
                raise MalformedError(f"answered more than {LARGEST_ANSWER} bytes")
            if response.will_close:
                self.close()
            return response.status, answer


class _BoundedSocket(socket.socket):
    """A socket whose every wait ends at `expires`, of `time.monotonic()`; then TimeoutError is raised."""

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


def _refuse_unasked(connection: socket.socket) -> None:
    """What comes before a request is not its answer; nor does anything come after the connection's end."""
    connection.settimeout(0)
    try:
        unasked = connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return
    if unasked:
        raise MalformedError("sent something that was not asked for")
    raise ConnectionError("the server closed the connection")


def _content(operation: str, answer: bytes) -> Mapping[str, Any]:
    """The JSON of an answer, its image as bytes."""
    try:
        content = json.loads(answer)
    except (ValueError, RecursionError):
        raise MalformedError(f"{operation}: not JSON: {one_line(repr(answer), 300)}") from None
    if not isinstance(content, dict):
        raise MalformedError(f"{operation}: not a JSON object: {one_line(repr(answer), 300)}")
    image = content.get("image_observation")
    if image is not None:
        try:
            content["image_observation"] = base64.b64decode(image, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise MalformedError(f"{operation}: image_observation is not base64") from None
    return content


def _reason(answer: bytes) -> str:
    """What a refusal says."""
    try:
        text = json.loads(answer)["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        text = answer.decode(errors="replace")
    return one_line(text if isinstance(text, str) else repr(text), 300)
