"""Servers that answer what a test tells them to, each in a thread."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

VECTOR_SPACE = {"shape": [65], "dtype": "float32", "low": -100.0, "high": 100.0}
INFO = {"episode_steps": 7, "projectile_count": 2}
RESET = {"observation": [0.1] * 65, "info": INFO}
STEP = RESET | {"reward": 1.0625, "done": False, "truncated": True}
GOOD = {
    "observation_space": VECTOR_SPACE,
    "action_space": {"type": "Box", "shape": [3], "low": -1.0, "high": 1.0},
    "reset": RESET,
    "step": STEP,
    "configure": "",
    "set_level": "",
    "start_training": "",
    "end_training": "",
}


def answer(content: Any, status: str = "200 OK", headers: str = "") -> bytes:
    """The bytes of an HTTP answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode() if content != "" else b""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def drip(connection: socket.socket, data: bytes, seconds: float) -> None:
    """A byte each `seconds`, until the other side has had enough."""
    with contextlib.suppress(OSError):
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            time.sleep(seconds)


class RawServer:
    """Reads requests and leaves every answer to `reply(connection, operation, body)`.

    `requests` lists what was asked, `connections` counts. A reply that
    returns False ends the connection.
    """

    def __init__(self, reply: Callable[[socket.socket, str, bytes], Any]):
        self.requests: list[tuple[str, bytes]] = []
        self.connections = 0
        self._reply = reply
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as stream:
            while line := stream.readline():
                length = 0
                while (header := stream.readline()) not in (b"\r\n", b""):
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                body = stream.read(length)
                operation = line.split()[1].decode().removeprefix("/")
                self.requests.append((operation, body))
                if self._reply(connection, operation, body) is False:
                    break
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@contextlib.contextmanager
def http_server(**answers: Any) -> Iterator[RawServer]:
    """A server with good answers but for those given: content, or a function for `RawServer`."""

    def reply(connection: socket.socket, operation: str, body: bytes) -> Any:
        content = (GOOD | answers)[operation]
        if callable(content):
            return content(connection, operation, body)
        connection.sendall(content if isinstance(content, bytes) else answer(content))
        return None

    server = RawServer(reply)
    try:
        yield server
    finally:
        server.close()
