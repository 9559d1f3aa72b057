"""`jaxdodge serve`: the game as a server, for clients of the original one.

Exit status: 2 bad input or an address in use, 130 or 143 stopped by
Ctrl-C or SIGTERM, 1 internal error.
"""

import dataclasses
import os
import secrets
import signal
import sys

from jaxdodge.cli import guarded
from jaxdodge.fields import ConfigError
from jaxdodge.hardware import keep_compiled
from jaxdodge.runs.options import parse_options
from jaxdodge.server.settings import LARGEST_SEED, ServerSettings

# XLA compiles loops of at most this many bytes to a single function; see `jaxdodge.server.game`.
SMALL_LOOPS = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000"


def serve(arguments: list[str]) -> int:
    """Parse, then serve until a signal; returns the exit status."""
    settings, _ = parse_options(ServerSettings, (), "jaxdodge serve", arguments)
    if settings.seed is None:
        settings = dataclasses.replace(settings, seed=secrets.randbelow(LARGEST_SEED - settings.arenas))
    try:
        import grpc  # noqa: F401
        import orjson  # noqa: F401
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn.protocols.http.httptools_impl  # noqa: F401
        import uvloop  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed; pip install 'jaxdodge[server]'") from None
    from jaxdodge.server.addresses import bound_addresses

    if settings.log is not None:
        settings.log.touch()
    # Until the server handles signals itself.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with bound_addresses(settings) as addresses:
        _run_calls_in_one_thread()
        from jaxdodge.server.process import run

        return run(settings, addresses)


def _run_calls_in_one_thread() -> None:
    """Configure XLA before it starts: a call takes less time than handing it to another thread."""
    import jax

    # XLA reads these when it creates its thread pool and when it compiles.
    os.environ["PJRT_NPROC"] = "1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SMALL_LOOPS}".strip()
    jax.config.update("jax_cpu_enable_async_dispatch", False)


if __name__ == "__main__":
    keep_compiled()
    sys.exit(guarded(serve, sys.argv[1:]))
