"""The server process: arenas, transports, signals."""

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import uvloop

from jaxdodge.fields import ConfigError
from jaxdodge.server.addresses import Addresses, address_text
from jaxdodge.server.arena import Arena
from jaxdodge.server.grpc_server import grpc_server
from jaxdodge.server.http_server import HttpServer, arena_app, watch_app
from jaxdodge.server.lockstep import LockstepArena
from jaxdodge.server.log import AnswerLog
from jaxdodge.server.metrics import Metrics
from jaxdodge.server.realtime import RealtimeArena
from jaxdodge.server.service import Service

if TYPE_CHECKING:
    from jaxdodge.serve import Serve

BROKEN = 1


def run(options: "Serve", addresses: Addresses) -> int:
    """Serve until a signal, or until an arena breaks; returns the exit status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(options, addresses))


async def _serve(options: "Serve", addresses: Addresses) -> int:
    ending: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(status: int) -> None:
        if not ending.done():
            ending.set_result(status)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, 128 + number)
    async with contextlib.AsyncExitStack() as stack:
        log = AnswerLog(options.log) if options.log is not None else None
        if log is not None:
            stack.callback(log.close)
        arenas = [_arena(options, number, lambda: end(BROKEN)) for number in range(options.arenas)]
        timing = (
            f"order {options.order}"
            if options.mode == "realtime"
            else f"{arenas[0].config.frames_per_step} frames per step, "
            f"response frame {arenas[0].config.response_frame}"
        )
        print(f"{options.mode} at {options.fps:g} fps, {timing}, seed {options.seed}", flush=True)
        for arena in arenas:
            arena.start()
            stack.callback(arena.stop)
        listening = await _listen(options, addresses, arenas, log, stack)
        print("\n".join(listening), flush=True)
        return await ending


def _arena(options: "Serve", number: int, failed) -> Arena:
    assert options.seed is not None
    config, seed = options.game(), options.seed + number
    if options.mode == "lockstep":
        return LockstepArena(number, config, seed)
    return RealtimeArena(number, config, seed, options.order, failed)


async def _listen(
    options: "Serve",
    addresses: Addresses,
    arenas: list[Arena],
    log: AnswerLog | None,
    stack: contextlib.AsyncExitStack,
) -> list[str]:
    """Start all transports; a line for each address."""
    metrics = Metrics(arenas)
    services = [Service(arena, log) for arena in arenas]
    lines = []
    apps = [
        (bound, arena_app(service, metrics, options.mode))
        for bound, service in zip(addresses.http, services, strict=bool(addresses.http))
    ]
    lines += [f"arena {arena}: http://{address_text(bound)}" for arena, (bound, _) in enumerate(apps)]
    if addresses.metrics is not None:
        apps.append((addresses.metrics, watch_app(arenas, metrics, options.mode)))
        lines.append(f"metrics: http://{address_text(addresses.metrics)}/metrics")
    if apps:
        server = HttpServer(apps)
        await server.start()
        stack.push_async_callback(server.stop)
    for arena, service in enumerate(services):
        names = {}
        if addresses.grpc:
            text = address_text(addresses.grpc[arena])
            addresses.grpc[arena].close()
            names[f"grpc://{text}"] = text
        if addresses.paths:
            path = addresses.paths[arena].absolute()
            names[f"unix://{path}"] = f"unix:{path}"
        if not names:
            continue
        remote = grpc_server(service, metrics)
        for url, name in names.items():
            try:
                remote.add_insecure_port(name)
            except RuntimeError:
                raise ConfigError(f"{url}: invalid value; it cannot be listened on") from None
            lines.append(f"arena {arena}: {url}")
        await remote.start()
        stack.push_async_callback(remote.stop, None)
    return lines
