"""`python -m jaxdodge.serve`: the game as a server, for clients of the original one.

Exit status: 2 bad input or an address that is taken, 130 or 143 stopped by Ctrl-C or SIGTERM, 1 broken.
"""

import dataclasses
import os
import secrets
import sys
from pathlib import Path
from typing import Any, Literal

import tyro

from jaxdodge.cli import guarded, parse
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Number
from jaxdodge.hardware import keep_compiled
from jaxdodge.sim.order import checked_order

DEFAULT_SOCKET = Path("/tmp/bevy_rl.sock")
LARGEST_SEED = 2**31 - 1
# Up to so many bytes XLA makes a single piece of code of a loop; see `jaxdodge.server.game`.
SMALL_LOOPS = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000"


@dataclasses.dataclass(frozen=True)
class Serve:
    """Serve the game over HTTP (--http), gRPC on TCP (--grpc-port) and gRPC on a Unix socket (--socket-path).

    All that are asked for are served; without any of the three, gRPC on the Unix socket /tmp/bevy_rl.sock.
    Prints a line for each address once it is really listening. Ctrl-C and SIGTERM close everything at once;
    the exit status is then 130 and 143.
    """

    headless: bool = False
    """Accepted as by the original, without effect: there never is a window."""
    fps: float = 60.0
    """Frames per second: of the wall clock (realtime), of the game's time (lockstep)."""
    http: bool = False
    """Serve HTTP."""
    port: int | None = None
    """Port of HTTP; 0 takes a free one. Default 8000."""
    grpc_port: int | None = None
    """Serve gRPC on this TCP port; 0 takes a free one."""
    socket_path: Path | None = None
    """Serve gRPC on this Unix socket."""
    metrics_port: int | None = None
    """Serve /health and /metrics of all arenas on this port too; each HTTP port serves its arena's."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    mode: Literal["realtime", "lockstep"] = "realtime"
    """realtime: the wall clock moves the game, as the original; lockstep: each step of the client does."""
    order: str = "simulator"
    """realtime: the order of a frame's systems. simulator; start: drawn at the start; frame: drawn for every
    frame; or the systems' names separated by commas."""
    frames_per_step: int = 1
    """lockstep: frames between two actions."""
    response_frame: int | None = None
    """lockstep: frame of a step that is answered; 0 is the one before the action. Default: the last."""
    arenas: int = 1
    """Independent games, on consecutive ports; the socket path of arena i > 0 ends in .i."""
    seed: int | None = None
    """Arena i draws everything random from seed + i. Default: drawn, and printed."""
    log: Path | None = None
    """Append a JSON line for every answered reset and step to this file."""

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
        if self.mode == "lockstep" and self.order != "simulator":
            raise ConfigError(f"order: invalid value {self.order} in lockstep; expected simulator")
        if self.mode == "realtime" and (self.frames_per_step != 1 or self.response_frame is not None):
            raise ConfigError(
                "frames_per_step and response_frame are refused in realtime, where the wall clock decides; "
                "accepted with --mode lockstep"
            )
        if self.order not in ("simulator", "start", "frame"):
            checked_order(self.order.split(","))
        self.game()

    def game(self) -> GameConfig:
        """The configuration that every arena starts with."""
        timing: dict[str, Any] = {"fps": self.fps, "frames_per_step": self.frames_per_step}
        return GameConfig(**timing, response_frame=self.response_frame)  # type: ignore[arg-type]

    def socket_paths(self) -> list[Path]:
        """The Unix socket of every arena; none if other transports are asked for and this is not."""
        path = self.socket_path
        if path is None:
            if self.http or self.grpc_port is not None:
                return []
            path = DEFAULT_SOCKET
        return [path if arena == 0 else Path(f"{path}.{arena}") for arena in range(self.arenas)]


def serve(arguments: list[str]) -> int:
    """Parse, then serve until a signal; returns the exit status."""
    options = parse(lambda: tyro.cli(Serve, prog="python -m jaxdodge.serve", args=arguments))
    if options.seed is None:
        options = dataclasses.replace(options, seed=secrets.randbelow(LARGEST_SEED - options.arenas))
    try:
        import grpc  # noqa: F401
        import orjson  # noqa: F401
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn.protocols.http.httptools_impl  # noqa: F401
        import uvloop  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed; pip install 'jaxdodge[server]'") from None
    _call_in_one_thread()
    from jaxdodge.server.addresses import bound_addresses

    if options.log is not None:
        options.log.touch()
    with bound_addresses(options) as addresses:
        from jaxdodge.server.process import run

        return run(options, addresses)


def _call_in_one_thread() -> None:
    """Before JAX starts: calls are so short that handing them to other threads takes longer than they do."""
    import jax

    # XLA reads them when it makes its threads, and when it compiles.
    os.environ["PJRT_NPROC"] = "1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SMALL_LOOPS}".strip()
    jax.config.update("jax_cpu_enable_async_dispatch", False)


if __name__ == "__main__":
    keep_compiled()
    sys.exit(guarded(serve, sys.argv[1:]))
