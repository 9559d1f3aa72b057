"""The HTTP transport: Starlette on uvicorn; one server of many sockets, and an app for each port."""

import asyncio
import base64
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jaxdodge.fields import ConfigError
from jaxdodge.server.arena import Arena, Publication
from jaxdodge.server.metrics import Metrics, health
from jaxdodge.server.protocol import (
    LARGEST_REQUEST,
    RefusedError,
    action_space,
    observation_space,
    refusal_text,
)
from jaxdodge.server.service import Service

BODY_SECONDS = 10.0
"""How long a client may take to send a request's head, and its body."""
IDLE_SECONDS = 600
"""How long a connection is kept without a request."""
JSON = orjson.OPT_SERIALIZE_NUMPY

Operation = Callable[[Service, bytes], Awaitable[bytes]]


async def _reset(service: Service, body: bytes) -> bytes:
    return _answer(await service.reset("http"), {})


async def _step(service: Service, body: bytes) -> bytes:
    publication = await service.step(_object(body).get("action"), "http")
    flags = {
        "reward": publication.reward,
        "done": publication.done,
        "truncated": publication.truncated,
    }
    return _answer(publication, flags)


async def _configure(service: Service, body: bytes) -> bytes:
    await service.configure(_object(body))
    return b""


async def _set_level(service: Service, body: bytes) -> bytes:
    await service.set_level(_object(body).get("level"))
    return b""


async def _observation_space(service: Service, body: bytes) -> bytes:
    return orjson.dumps(observation_space(service.arena.config))


async def _action_space(service: Service, body: bytes) -> bytes:
    return orjson.dumps(action_space(service.arena.config))


async def _nothing(service: Service, body: bytes) -> bytes:
    return b""


OPERATIONS: dict[str, tuple[str, Operation]] = {
    "reset": ("POST", _reset),
    "step": ("POST", _step),
    "observation_space": ("GET", _observation_space),
    "action_space": ("GET", _action_space),
    "start_training": ("POST", _nothing),
    "end_training": ("POST", _nothing),
    "set_level": ("POST", _set_level),
    "configure": ("POST", _configure),
}


def _answer(publication: Publication, flags: dict[str, Any]) -> bytes:
    answer: dict[str, Any] = {"observation": publication.observation}
    if publication.image is not None:
        answer["image_observation"] = base64.b64encode(publication.image).decode()
    return orjson.dumps({**answer, **flags, "info": publication.info}, option=JSON)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(f"body: not JSON ({error}); expected a JSON object") from None
    if not isinstance(content, dict):
        raise RefusedError(f"body: invalid value a JSON {type(content).__name__}; expected a JSON object")
    return content


async def _body(request: Request) -> bytes:
    """The whole body; raises HTTPException if it is too large or too slow."""
    too_large = HTTPException(413, f"body: invalid value more than {LARGEST_REQUEST} bytes")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > LARGEST_REQUEST:
        raise too_large
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_REQUEST:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"body: not whole after {BODY_SECONDS:g} s") from None
    return body


def arena_app(service: Service, metrics: Metrics, mode: str) -> ASGIApp:
    """The HTTP interface of one arena."""

    def endpoint(name: str, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            start = time.perf_counter()
            outcome = "failed"
            try:
                response = Response(await operation(service, await _body(request)))
                if response.body:
                    response.headers["content-type"] = "application/json"
                outcome = "ok"
            except (RefusedError, ConfigError) as error:
                response = _refusal(400, refusal_text(error))
                outcome = "refused"
            except ClientDisconnect:
                response = Response(status_code=400)  # nobody reads it
            finally:
                metrics.answered(service.arena.number, name, outcome, time.perf_counter() - start)
            return response

        return handle

    routes = [
        Route(f"/{name}", endpoint(name, operation), methods=[method])
        for name, (method, operation) in OPERATIONS.items()
    ]
    return _app(routes + watch_routes([service.arena], metrics, mode), metrics, service.arena.number)


def watch_app(arenas: Sequence[Arena], metrics: Metrics, mode: str) -> ASGIApp:
    """`/health` and `/metrics` of all arenas, for a port of their own."""
    return _app(watch_routes(arenas, metrics, mode), metrics, arenas[0].number)


def watch_routes(arenas: Sequence[Arena], metrics: Metrics, mode: str) -> list[Route]:
    """`/health` of these arenas, `/metrics` of the process."""

    async def get_health(request: Request) -> Response:
        return Response(orjson.dumps(health(arenas, mode)), media_type="application/json")

    async def get_metrics(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return [Route("/health", get_health), Route("/metrics", get_metrics)]


def _app(routes: list[Route], metrics: Metrics, arena: int) -> Starlette:
    accepted = ", ".join(f"{'/'.join(sorted((r.methods or set()) - {'HEAD'}))} {r.path}" for r in routes)

    def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = error.detail
        if error.status_code in (404, 405):
            what = f"{request.method} {request.url.path}"
            text = refusal_text(RefusedError(f"{what!r}: no such route; expected {accepted}"))
            metrics.answered(arena, "other", "failed", 0.0)
        # What is left of the request is not read, so nothing else can come over this connection.
        headers = (
            {**(error.headers or {}), "connection": "close"}
            if error.status_code in (408, 413)
            else error.headers
        )
        return _refusal(error.status_code, text, headers)

    def broke(request: Request, error: Exception) -> Response:
        return _refusal(500, "internal error; the server's standard error says more")

    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
        ],
        exception_handlers={HTTPException: failed, Exception: broke},
    )
    app.router.redirect_slashes = False
    return app


def _refusal(status: int, text: str, headers: Any = None) -> Response:
    return Response(orjson.dumps({"error": text}), status, headers, "application/json")


class _Gathered:
    """A transport that sends what is written in one turn of the loop in one piece.

    uvicorn writes a response's head and body apart, which would wake the client twice.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop):
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))


class Protocol(HttpToolsProtocol):
    """uvicorn's, with a limit on how long a request's head may take, and JSON where it is no HTTP."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Gathered(transport, self.loop))  # type: ignore[arg-type]
        self._head = self.loop.call_later(BODY_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_is_here()
        self._head = self.loop.call_later(BODY_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        self._head_is_here()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        text = orjson.dumps({"error": msg})
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n"
        )
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + text)
        self.transport.close()

    def _head_is_here(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class HttpServer(uvicorn.Server):
    """All HTTP sockets of a process.

    Args:
        apps: the app of each bound socket.
    """

    def __init__(self, apps: Sequence[tuple[socket.socket, ASGIApp]]):
        by_port = {bound.getsockname()[1]: app for bound, app in apps}

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            await by_port[scope["server"][1]](scope, receive, send)

        super().__init__(
            uvicorn.Config(
                dispatch,
                http=Protocol,
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,
                timeout_keep_alive=IDLE_SECONDS,
            )
        )
        self._sockets = [bound for bound, _ in apps]
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)

    async def start(self) -> None:
        """Listen."""
        await self.startup(self._sockets)
        self._main = asyncio.create_task(self.main_loop())

    async def stop(self) -> None:
        """Close all connections at once; what was being answered is not."""
        self.should_exit = True
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.gather(self._main, *self.server_state.tasks)
