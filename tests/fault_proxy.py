"""A proxy in front of an HTTP game server that spoils single answers, as a thread or as a process.

As a process it starts the server too, and takes orders on a Unix socket:

    python fault_proxy.py PORT FOLDER SECONDS -- COMMAND WITH {server_port}

Orders are the names in FAULTS, and `kill` and `stop` for the server
behind it. The socket is FOLDER/PID.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def changed(answer: bytes, change: Callable[[Any], None]) -> bytes:
    """An answer with another content."""
    content = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    change(content)
    return with_body(json.dumps(content).encode())


def with_body(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drip(connection: socket.socket, answer: bytes, seconds: float) -> None:
    """Whole in ten times so many seconds."""
    for index in range(len(answer)):
        connection.sendall(answer[index : index + 1])
        time.sleep(10 * seconds / len(answer))


def late(connection: socket.socket, answer: bytes, seconds: float) -> None:
    time.sleep(seconds)
    connection.sendall(answer)


def set_observation(index: int, value: float) -> Callable[[Any], None]:
    return lambda content: content["observation"].__setitem__(index, value)


def spoiled(change: Callable[[Any], None]) -> Callable[..., None]:
    return lambda connection, answer, _: connection.sendall(changed(answer, change))


# Each gets the connection, the answer, and seconds that are longer than any client waits. A
# connection is closed after those that say so.
FAULTS: dict[str, Callable[..., Any]] = {
    "reset": lambda connection, *_: reset(connection) or "close",
    "close": lambda *_: "close",
    "cut": lambda connection, answer, _: connection.sendall(answer[: len(answer) // 2]) or "close",
    "silence": lambda *_: None,
    "delay": late,
    "drip": drip,
    "garbage": lambda connection, answer, _: connection.sendall(bytes(range(256)) * 8),
    "garbage_body": lambda connection, answer, _: connection.sendall(with_body(b"\xff" * 700)),
    "no_server": lambda connection, *_: connection.sendall(with_body(b"Bad Gateway", "502 Bad Gateway")),
    "refusal": lambda connection, *_: connection.sendall(
        with_body(b'{"error": "action: invalid value 3"}', "400 Bad Request")
    ),
    "wrong_shape": spoiled(lambda content: content["observation"].pop()),
    "not_a_number": spoiled(set_observation(7, float("nan"))),
    "out_of_space": spoiled(set_observation(7, 1e30)),
    "no_flag": spoiled(lambda content: content.update(done=None)),
    "another_episode": spoiled(lambda content: content["info"].update(episode_steps=0)),
    "ahead": spoiled(lambda content: content["info"].update(episode_steps=1_000)),
}


class FaultProxy:
    """Forwards requests one by one, and spoils the answer to a step once `arm` has said how."""

    def __init__(self, server_port: int, port: int = 0, seconds: float = 10.0):
        self.server_port = server_port
        self.seconds = seconds
        self.armed: str | None = None
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, fault: str) -> None:
        assert fault in FAULTS
        self.armed = fault

    def close(self) -> None:
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._forward, args=(connection,), daemon=True).start()

    def _forward(self, connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError, ValueError, EOFError),
            connection,
            socket.create_connection(("127.0.0.1", self.server_port)) as server,
            connection.makefile("rb") as asked,
            server.makefile("rb") as answered,
        ):
            while True:
                request = message(asked)
                server.sendall(request)
                answer = message(answered)
                fault = None
                if request.startswith(b"POST /step"):
                    fault, self.armed = self.armed, None
                if fault is None:
                    connection.sendall(answer)
                elif FAULTS[fault](connection, answer, self.seconds) == "close":
                    return


def message(stream: BinaryIO) -> bytes:
    """A whole request or answer; raises EOFError."""
    head, length = b"", 0
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            raise EOFError
        head += line
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    body = stream.read(length)
    if len(body) < length:
        raise EOFError
    return head + body


def order(folder: Path, process: int, what: str) -> None:
    """Tell a proxy process what to do, and wait until it is about to. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        # An address for the answer, which the system chooses.
        sender.bind("")
        sender.settimeout(10)
        sender.sendto(what.encode(), str(folder / str(process)))
        sender.recv(100)


def main(arguments: list[str]) -> None:
    port, folder, seconds, _, *command = arguments
    with socket.create_server(("127.0.0.1", 0)) as free:
        server_port = free.getsockname()[1]
    server = subprocess.Popen([part.replace("{server_port}", str(server_port)) for part in command])
    path = Path(folder) / str(os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as orders:
        orders.bind(str(path))
        proxy = FaultProxy(server_port, int(port), float(seconds))
        while True:
            received, sender = orders.recvfrom(100)
            what = received.decode()
            if what == "kill":
                server.kill()
            elif what == "stop":
                server.send_signal(signal.SIGSTOP)
            else:
                proxy.arm(what)
            orders.sendto(b"done", sender)


if __name__ == "__main__":
    main(sys.argv[1:])
