"""The server process: environments, transports, signals."""

import asyncio
import contextlib
from collections.abc import Callable

import uvloop

from jaxdodge.fields import ConfigError
from jaxdodge.server.addresses import Addresses, address_text
from jaxdodge.server.grpc_server import grpc_server
from jaxdodge.server.http_app import env_app, watch_app
from jaxdodge.server.http_server import HttpServer
from jaxdodge.server.lockstep import LockstepEnv
from jaxdodge.server.log import ResponseLog
from jaxdodge.server.metrics import Metrics
from jaxdodge.server.page_check import PageCheck
from jaxdodge.server.realtime import RealtimeEnv
from jaxdodge.server.served_env import ServedEnv
from jaxdodge.server.service import Service
from jaxdodge.server.settings import ServerSettings
from jaxdodge.server.signals import SignalThread

BROKEN = 1


def run(settings: ServerSettings, addresses: Addresses) -> int:
    """Serve until a signal, or until an environment fails; returns the exit status."""
    signals = SignalThread(addresses.release)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(settings, addresses, signals))
    finally:
        signals.finish()


async def _serve(settings: ServerSettings, addresses: Addresses, signals: SignalThread) -> int:
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[int] = loop.create_future()

    def end(status: int) -> None:
        if not ending.done():
            ending.set_result(status)

    def end_threadsafe(status: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(end, status)

    signals.start(end_threadsafe)
    async with contextlib.AsyncExitStack() as stack:
        log = ResponseLog(settings.log) if settings.log is not None else None
        if log is not None:
            stack.callback(log.close)
        envs = [_env(settings, number, lambda: end(BROKEN)) for number in range(settings.arenas)]
        config = envs[0].config
        timing = f"{config.frames_per_step} frames per step, response frame {config.response_frame}"
        if settings.mode == "realtime":
            timing = f"order {settings.order}"
        print(f"{settings.mode} at {settings.fps:g} fps, {timing}, seed {settings.seed}", flush=True)
        for env in envs:
            env.start()
            stack.callback(env.stop)
            await asyncio.sleep(0)
            if ending.done():
                return ending.result()
        metrics = Metrics(envs)
        services = [Service(env, metrics, log) for env in envs]
        lines = await _serve_http(settings, addresses, services, metrics, stack)
        for number, service in enumerate(services):
            lines += await _serve_grpc(addresses, number, service, stack)
        print("\n".join(lines), flush=True)
        return await ending


def _env(settings: ServerSettings, number: int, failed: Callable[[], None]) -> ServedEnv:
    assert settings.seed is not None
    config, seed = settings.game(), settings.seed + number
    if settings.mode == "lockstep":
        return LockstepEnv(number, config, seed)
    return RealtimeEnv(number, config, seed, settings.order, failed)


async def _serve_http(
    settings: ServerSettings,
    addresses: Addresses,
    services: list[Service],
    metrics: Metrics,
    stack: contextlib.AsyncExitStack,
) -> list[str]:
    """Start the HTTP server, if there is anything to serve; a line for each address."""
    lines = [f"arena {number}: http://{address_text(bound)}" for number, bound in enumerate(addresses.http)]
    apps = [
        (bound, env_app(service, settings.mode))
        for bound, service in zip(addresses.http, services, strict=False)
    ]
    for bound in addresses.metrics:
        apps.append((bound, watch_app([service.env for service in services], metrics, settings.mode)))
        lines.append(f"metrics: http://{address_text(bound)}/metrics")
    if apps:
        check = PageCheck([settings.host, *settings.allowed_hosts], settings.allowed_origins)
        server = HttpServer(apps, check)
        await server.start()
        stack.push_async_callback(server.stop)
    return lines


async def _serve_grpc(
    addresses: Addresses, number: int, service: Service, stack: contextlib.AsyncExitStack
) -> list[str]:
    """Start the gRPC server of one environment, if it has addresses; a line for each."""
    names = {}
    if addresses.grpc:
        text = address_text(addresses.grpc[number])
        addresses.grpc[number].close()
        names[f"grpc://{text}"] = text
    if addresses.unix:
        unix = addresses.unix[number]
        names[f"unix://{unix.path}"] = f"unix:{unix.private}"
    if names:
        server = grpc_server(service)
        for url, name in names.items():
            try:
                server.add_insecure_port(name)
            except RuntimeError:
                raise ConfigError(f"{url}: invalid value; cannot listen on it") from None
        if addresses.unix:
            addresses.unix[number].publish()
        await server.start()
        stack.push_async_callback(server.stop, None)
    return [f"arena {number}: {url}" for url in names]
