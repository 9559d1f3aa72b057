"""The addresses of a server: taken before anything slow, so that one in use is an error at once."""

import contextlib
import dataclasses
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line
from jaxdodge.server.settings import DEFAULT_PORT, ServerSettings

LONGEST_SOCKET_PATH = 107  # bytes, of Linux's sockaddr_un
BACKLOG = 2048


@dataclasses.dataclass
class Addresses:
    """Listening TCP sockets and Unix sockets: one per environment, or none of a kind."""

    http: list[socket.socket]
    grpc: list[socket.socket]
    """Placeholders, because gRPC creates its own sockets."""
    unix: list["UnixSocket"]
    metrics: list[socket.socket]
    release: Callable[[], None]
    """Closes and unlocks all of them before the block ends."""


@contextlib.contextmanager
def bound_addresses(settings: ServerSettings) -> Iterator[Addresses]:
    """Listen on TCP sockets and lock Unix socket paths until the block ends. Raises ConfigError."""
    with contextlib.ExitStack() as stack:

        def bind(option: str, first: int | None, count: int) -> list[socket.socket]:
            ports = [] if first is None else [first and first + number for number in range(count)]
            return [stack.enter_context(_bound(settings.host, option, port)) for port in ports]

        http = (DEFAULT_PORT if settings.port is None else settings.port) if settings.http else None
        yield Addresses(
            http=bind("port", http, settings.arenas),
            grpc=bind("grpc_port", settings.grpc_port, settings.arenas),
            unix=[stack.enter_context(UnixSocket(path)) for path in settings.socket_paths()],
            metrics=bind("metrics_port", settings.metrics_port, 1),
            release=stack.close,
        )


def address_text(bound: socket.socket) -> str:
    """HOST:PORT of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bound(host: str, option: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"host: invalid value {host}; {error_line(error)}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # SO_REUSEADDR lets two servers bind the same port, but only one listen on it.
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigError(f"{option}: invalid value {port} on {host}; {error_line(error)}") from None
    return bound


class UnixSocket:
    """The path of a Unix socket, which a lock file keeps from other servers until the context ends.

    gRPC binds `private`, a name in the same folder, which `publish` then renames: gRPC itself would
    replace, and in the end remove, whatever socket has the path.

    Raises:
        ConfigError: no socket can be created there, or another server listens on it.
    """

    def __init__(self, path: Path):
        self.path = path.absolute()
        self.private = self.path.with_name(f".{secrets.token_hex(4)}")
        self._lock_path = self.path.with_name(f"{self.path.name}.lock")
        self._inode: int | None = None
        self._check_path(path)
        self._lock = self._locked(path)
        try:
            self._check_unused(path)
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> "UnixSocket":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            if self._inode is not None and os.stat(self.path).st_ino == self._inode:
                self.path.unlink()
        self._unlock()

    def publish(self) -> None:
        """Give the bound socket its path."""
        self._inode = os.stat(self.private).st_ino
        os.replace(self.private, self.path)

    def _check_path(self, path: Path) -> None:
        if max(len(os.fsencode(each)) for each in (self.path, self.private)) > LONGEST_SOCKET_PATH:
            raise _invalid(path, f"longer than {LONGEST_SOCKET_PATH} bytes")
        folder = self.path.parent
        if not folder.is_dir():
            raise _invalid(path, f"no such folder: {folder}")
        if not os.access(folder, os.W_OK):
            raise _invalid(path, f"no permission to write in {folder}")

    def _locked(self, path: Path) -> int:
        """A descriptor of the lock file, with the lock."""
        while True:
            try:
                lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise _invalid(path, f"{self._lock_path}: {error_line(error)}") from None
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise _invalid(path, "a server listens there") from None
            # Its last owner may have removed the file after it was opened here.
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._lock_path).st_ino == os.fstat(lock).st_ino:
                    return lock
            os.close(lock)

    def _unlock(self) -> None:
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)

    def _check_unused(self, path: Path) -> None:
        """Raise ConfigError unless the path is free, or has a socket on which nothing listens."""
        if not self.path.exists():
            return
        if not stat.S_ISSOCK(self.path.stat().st_mode):
            raise _invalid(path, "it exists and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                return
            except OSError as error:
                raise _invalid(path, error_line(error)) from None
        raise _invalid(path, "a server listens there")


def _invalid(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"socket_path: invalid value {path}; {reason}")
