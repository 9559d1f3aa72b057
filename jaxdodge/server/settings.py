"""Settings of a server process: the options of `jaxdodge serve`, checked."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Name, Number
from jaxdodge.sim.order import checked_order

DEFAULT_PORT = 8000
DEFAULT_SOCKET = Path("/tmp/bevy_rl.sock")
LARGEST_SEED = 2**31 - 1
MODES = ("realtime", "lockstep")


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """Serve the game over HTTP (--http), gRPC on TCP (--grpc-port) and gRPC on
    a Unix socket (--socket-path).

    Any combination can be served at once. Without any of the three, the server listens on the Unix
    socket /tmp/bevy_rl.sock. It prints one line per address once it is listening. Ctrl-C and
    SIGTERM close all connections at once; the exit status is then 130 or 143.
    """

    headless: bool = False
    """Accepted for compatibility with the original, without effect: there is no window."""
    fps: float = 60.0
    """Frames per second: of the wall clock (realtime) or of game time (lockstep)."""
    http: bool = False
    """Serve HTTP."""
    port: int | None = None
    """HTTP port; 0 picks a free one. Default 8000."""
    grpc_port: int | None = None
    """Serve gRPC on this TCP port; 0 picks a free one."""
    socket_path: Path | None = None
    """Serve gRPC on this Unix socket. {arena} in it stands for the number of the arena."""
    metrics_port: int | None = None
    """Also serve /health and /metrics of all arenas on this port. An HTTP port serves its own."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    allowed_hosts: tuple[str, ...] = ()
    """HTTP: names that requests may use for this machine, besides IP addresses,
    localhost and --host; * for any name. Without the check, a web page could reach the
    server under a name of its own."""
    allowed_origins: tuple[str, ...] = ()
    """HTTP: origins of web pages that may send requests, such as http://localhost:3000; * for any
    web page, as in the original. Clients other than browsers are not affected."""
    mode: str = "realtime"
    """realtime: the wall clock advances the game, as in the original; lockstep: each step does."""
    order: str = "simulator"
    """realtime: order of the systems in a frame. simulator; start: drawn once at the start; frame:
    drawn for every frame; or the names of the systems, separated by commas."""
    frames_per_step: int = 1
    """lockstep: frames between two actions."""
    response_frame: int | None = None
    """lockstep: frame of a step that is returned; 0: the one before
    the action. Default: the last.
    """
    arenas: int = 1
    """Independent games, on consecutive ports; without {arena} in --socket-path, the
    socket of arena i > 0 ends in .i."""
    seed: int | None = None
    """Arena i draws all its randomness from seed + i. Default: a random seed, which is printed."""
    log: Path | None = None
    """Append one JSON line per reset and step response to this file."""

    def __post_init__(self) -> None:
        for name in ("port", "grpc_port", "metrics_port"):
            if getattr(self, name) is not None:
                Number(int, 0, 65535).check(name, getattr(self, name))
        Number(int, 1, 1000).check("arenas", self.arenas)
        for name in ("port", "grpc_port"):
            first = getattr(self, name)
            if first and first + self.arenas - 1 > 65535:
                raise ConfigError(f"{name}: invalid value {first}; the last of {self.arenas} is above 65535")
        if self.seed is not None:
            Number(int, 0, LARGEST_SEED - self.arenas).check("seed", self.seed)
        if self.port is not None and not self.http:
            raise ConfigError(f"port: invalid value {self.port} without --http; it is the port of HTTP")
        Name(MODES).check("mode", self.mode)
        if self.mode == "lockstep" and self.order != "simulator":
            raise ConfigError(f"order: invalid value {self.order!r} in lockstep; expected simulator")
        if self.mode == "realtime" and (self.frames_per_step != 1 or self.response_frame is not None):
            raise ConfigError(
                "frames_per_step and response_frame: no effect in realtime, where the wall clock decides; "
                "expected with --mode lockstep"
            )
        if self.order not in ("simulator", "start", "frame"):
            checked_order(self.order.split(","))
        self.game()

    def game(self) -> GameConfig:
        """The configuration with which every environment starts."""
        timing: dict[str, Any] = {"fps": self.fps, "frames_per_step": self.frames_per_step}
        return GameConfig(**timing, response_frame=self.response_frame)  # type: ignore[arg-type]

    def socket_paths(self) -> list[Path]:
        """Unix socket of every environment; empty if only other transports are served."""
        path = self.socket_path
        if path is None:
            if self.http or self.grpc_port is not None:
                return []
            path = DEFAULT_SOCKET
        if "{arena}" in str(path):
            return [Path(str(path).replace("{arena}", str(number))) for number in range(self.arenas)]
        return [path if number == 0 else Path(f"{path}.{number}") for number in range(self.arenas)]
