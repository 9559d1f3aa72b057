"""The server process: arenas, transports, signals."""

import asyncio
import contextlib
import signal

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
from jaxdodge.server.settings import ServerSettings

BROKEN = 1


def run(settings: ServerSettings, addresses: Addresses) -> int:
    """Serve until a signal, or until an arena breaks; returns the exit status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, addresses))


async def _serve(settings: ServerSettings, addresses: Addresses) -> int:
    ending: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(status: int) -> None:
        if not ending.done():
            ending.set_result(status)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, 128 + number)
    async with contextlib.AsyncExitStack() as stack:
        log = AnswerLog(settings.log) if settings.log is not None else None
        if log is not None:
            stack.callback(log.close)
        arenas = [_arena(settings, number, lambda: end(BROKEN)) for number in range(settings.arenas)]
        timing = (
            f"order {settings.order}"
            if settings.mode == "realtime"
            else f"{arenas[0].config.frames_per_step} frames per step, "
            f"response frame {arenas[0].config.response_frame}"
        )
        print(f"{settings.mode} at {settings.fps:g} fps, {timing}, seed {settings.seed}", flush=True)
        for arena in arenas:
            arena.start()
            stack.callback(arena.stop)
        listening = await _listen(settings, addresses, arenas, log, stack)
        print("\n".join(listening), flush=True)
        return await ending


def _arena(settings: ServerSettings, number: int, failed) -> Arena:
    assert settings.seed is not None
    config, seed = settings.game(), settings.seed + number
    if settings.mode == "lockstep":
        return LockstepArena(number, config, seed)
    return RealtimeArena(number, config, seed, settings.order, failed)


async def _listen(
    settings: ServerSettings,
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
        (bound, arena_app(service, metrics, settings.mode))
        for bound, service in zip(addresses.http, services, strict=bool(addresses.http))
    ]
    lines += [f"arena {arena}: http://{address_text(bound)}" for arena, (bound, _) in enumerate(apps)]
    for bound in addresses.metrics:
        apps.append((bound, watch_app(arenas, metrics, settings.mode)))
        lines.append(f"metrics: http://{address_text(bound)}/metrics")
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
