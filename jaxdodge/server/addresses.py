"""The addresses of a server: taken before anything slow, so that one in use is an error at once."""

import contextlib
import dataclasses
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line
from jaxdodge.server.settings import DEFAULT_PORT, ServerSettings

LONGEST_SOCKET_PATH = 107  # bytes, of Linux's sockaddr_un


@dataclasses.dataclass
class Addresses:
    """Bound sockets and checked paths: one per environment, or none of a kind."""

    http: list[socket.socket]
    grpc: list[socket.socket]
    paths: list[Path]
    metrics: list[socket.socket]


@contextlib.contextmanager
def bound_addresses(settings: ServerSettings) -> Iterator[Addresses]:
    """Bind TCP sockets and check Unix socket paths; all are released at the end. Raises ConfigError."""
    with contextlib.ExitStack() as stack:

        def bind(option: str, first: int | None, count: int) -> list[socket.socket]:
            ports = [] if first is None else [first and first + number for number in range(count)]
            return [stack.enter_context(_bound(settings.host, option, port)) for port in ports]

        http = (DEFAULT_PORT if settings.port is None else settings.port) if settings.http else None
        addresses = Addresses(
            http=bind("port", http, settings.arenas),
            grpc=bind("grpc_port", settings.grpc_port, settings.arenas),
            paths=settings.socket_paths(),
            metrics=bind("metrics_port", settings.metrics_port, 1),
        )
        for path in addresses.paths:
            _claim(path)
        try:
            yield addresses
        finally:
            for path in addresses.paths:
                path.unlink(missing_ok=True)


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
    except OSError as error:
        bound.close()
        raise ConfigError(f"{option}: invalid value {port} on {host}; {error_line(error)}") from None
    return bound


def _claim(path: Path) -> None:
    """Make sure that a Unix socket can be created here; the socket of a dead server is removed."""

    def invalid(reason: str) -> ConfigError:
        return ConfigError(f"socket_path: invalid value {path}; {reason}")

    if len(os.fsencode(path.absolute())) > LONGEST_SOCKET_PATH:
        raise invalid(f"longer than {LONGEST_SOCKET_PATH} bytes")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise invalid(f"no such folder: {folder}")
    if not os.access(folder, os.W_OK):
        raise invalid(f"no permission to write in {folder}")
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise invalid("it exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise invalid(error_line(error)) from None
        else:
            raise invalid("a server listens there")
