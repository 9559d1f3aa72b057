"""The HTTP transport: Starlette on uvicorn; one server with an app for each port."""

import asyncio
import base64
import collections
import logging
import resource
import socket
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

from jaxdodge.server.metrics import Metrics, health
from jaxdodge.server.protocol import LARGEST_REQUEST, RequestError, error_text
from jaxdodge.server.served_env import ServedEnv
from jaxdodge.server.service import Service

BODY_SECONDS = 10.0
"""Time limit for a client to send the head of a request, and for its body."""
MOST_TRACEBACKS = 5
"""Tracebacks on standard error per minute."""
IDLE_SECONDS = 600
"""How long a connection without requests is kept."""
DEEPEST = 16
"""Levels of nesting in a JSON body; valid ones have two."""
OTHER_FILES = 128
"""File descriptors that are not HTTP connections, at most."""
LARGEST_HEAD = 2**16
"""Limit for a request's head, and for its trailers, bytes; one socket read can exceed it."""
METHODS = {
    "reset": "POST",
    "step": "POST",
    "observation_space": "GET",
    "action_space": "GET",
    "start_training": "POST",
    "end_training": "POST",
    "set_level": "POST",
    "configure": "POST",
}
# All other operations accept any body.
WITH_BODY = ("step", "set_level", "configure")


def _encoded(content: dict[str, Any]) -> bytes:
    if not content:
        return b""
    if "image_observation" in content:
        content["image_observation"] = base64.b64encode(content["image_observation"]).decode()
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"body: not JSON ({error}); expected a JSON object") from None
    if not isinstance(content, dict):
        raise RequestError(f"body: invalid value a JSON {type(content).__name__}; expected a JSON object")
    # Python cannot print, and so not report, a value that is nested hundreds of levels deep.
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        level = [child for value in level for child in _children(value)]
        if not level:
            return content
    raise RequestError(f"body: nested deeper than {DEEPEST} levels; expected a JSON object")


def _children(value: Any) -> list[Any]:
    """The objects and lists in an object or list."""
    values = value.values() if isinstance(value, dict) else value
    return [child for child in values if isinstance(child, (dict, list))]


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


def env_app(service: Service, mode: str) -> ASGIApp:
    """The HTTP interface of one environment."""

    def endpoint(operation: str) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                with service.request(operation):
                    body = await _body(request)
                    fields = _object(body) if operation in WITH_BODY else {}
                    content = _encoded(await service.respond(operation, fields, "http"))
            except RequestError as error:
                return _error(400, str(error))
            except ClientDisconnect:
                return Response()
            return Response(content, media_type="application/json" if content else None)

        return handle

    routes = [
        Route(f"/{operation}", endpoint(operation), methods=[method]) for operation, method in METHODS.items()
    ]
    metrics, env = service.metrics, service.env
    return _app(routes + _watch_routes([env], metrics, mode), metrics, env.number)


def watch_app(envs: Sequence[ServedEnv], metrics: Metrics, mode: str) -> ASGIApp:
    """`/health` and `/metrics` of all environments, for a port of their own."""
    return _app(_watch_routes(envs, metrics, mode), metrics, envs[0].number)


def _watch_routes(envs: Sequence[ServedEnv], metrics: Metrics, mode: str) -> list[Route]:
    """`/health` of these environments, `/metrics` of the process."""

    async def get_health(request: Request) -> Response:
        return Response(orjson.dumps(health(envs, mode)), media_type="application/json")

    async def get_metrics(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return [Route("/health", get_health), Route("/metrics", get_metrics)]


def _app(routes: list[Route], metrics: Metrics, env: int) -> Starlette:
    expected = ", ".join(f"{'/'.join(sorted((r.methods or set()) - {'HEAD'}))} {r.path}" for r in routes)

    def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = error.detail
        if error.status_code in (404, 405):
            what = f"{request.method} {request.url.path}"
            text = error_text(RequestError(f"{what!r}: no such route; expected {expected}"))
            metrics.count(env, "other", "failed", 0.0)
        headers = dict(error.headers or {})
        if error.status_code in (408, 413):
            # The rest of the request is not read, so the connection cannot be used again.
            headers["connection"] = "close"
        return _error(error.status_code, text, headers)

    def broke(request: Request, error: Exception) -> Response:
        return _error(500, "internal error; see the server's standard error")

    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
        ],
        exception_handlers={HTTPException: failed, Exception: broke},
    )
    app.router.redirect_slashes = False
    return app


def _error(status: int, text: str, headers: Any = None) -> Response:
    return Response(orjson.dumps({"error": text}), status, headers, "application/json")


class _Gathered:
    """A transport that joins all writes of one event loop iteration into one.

    uvicorn writes the head and the body of a response separately, which would wake the client twice.
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
    """uvicorn's protocol with a limit on a request's head, and JSON errors for malformed HTTP."""

    _head_bytes = 0
    """Bytes since the last part of a body, or since a head or message was complete."""
    _head_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Gathered(transport, self.loop))  # type: ignore[arg-type]
        self._last_used = self.loop.time()
        if len(self.connections) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES:
            self._close_idle_connection()
        self._head_timeout = self.loop.call_later(BODY_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timeout()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A half-closed connection stays open until its complete requests have their responses."""
        if self._idle() or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        self._last_used = self.loop.time()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > LARGEST_HEAD and not self.transport.is_closing():
            self._send_error("431 Request Header Fields Too Large", f"head: more than {LARGEST_HEAD} bytes")

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        super().on_message_complete()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._cancel_head_timeout()
        self._head_timeout = self.loop.call_later(BODY_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        self._cancel_head_timeout()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._send_error("400 Bad Request", msg)

    def _send_error(self, status: str, text: str) -> None:
        content = orjson.dumps({"error": text})
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + content)
        self.transport.close()

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_idle_connection(self) -> None:
        """Close the connection that has been idle for longest, so that the next client can connect."""
        idle = [each for each in self.connections if isinstance(each, Protocol) and each._idle()]
        min(idle, key=lambda each: each._last_used).transport.close()

    def _cancel_head_timeout(self) -> None:
        if self._head_timeout is not None:
            self._head_timeout.cancel()
            self._head_timeout = None


class TracebackLimit(logging.Filter):
    """Lets at most MOST_TRACEBACKS log records with a traceback pass within a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._times: collections.deque[float] = collections.deque(maxlen=MOST_TRACEBACKS)

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.exc_info:
            return True
        if len(self._times) == MOST_TRACEBACKS and record.created - self._times[0] < 60:
            return False
        self._times.append(record.created)
        return True


class HttpServer(uvicorn.Server):
    """All HTTP sockets of a process.

    Args:
        apps: the app of each bound socket.
    """

    def __init__(self, apps: Sequence[tuple[socket.socket, ASGIApp]]):
        by_port = {bound.getsockname()[1]: app for bound, app in apps}

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            await by_port[scope["server"][1]](scope, receive, send)

        logging.getLogger("uvicorn.error").addFilter(TracebackLimit())
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
        """Close all connections at once; pending requests get no response."""
        self.should_exit = True
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.gather(self._main, *self.server_state.tasks)
