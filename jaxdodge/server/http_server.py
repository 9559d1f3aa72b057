"""The HTTP server: uvicorn with an app for each port, and limits on connections and requests."""

import asyncio
import collections
import logging
import resource
import socket
from collections.abc import Sequence
from typing import Any

import orjson
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jaxdodge.server.http_app import BODY_SECONDS
from jaxdodge.server.page_check import PageCheck

MOST_TRACEBACKS = 5
"""Tracebacks on standard error per minute."""
IDLE_SECONDS = 600
"""How long a connection without requests is kept."""
OTHER_FILES = 128
"""File descriptors that are not HTTP connections, at most."""
LARGEST_HEAD = 2**16
"""Limit for a request's head, and for its trailers, bytes; one socket read can exceed it."""


class Gathered:
    """A transport that joins all writes of one event loop iteration into one.

    uvicorn writes the head and the body of a response separately,
    which would wake the client twice.
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
        super().connection_made(Gathered(transport, self.loop))  # type: ignore[arg-type]
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
            # The event loop would close without what is gathered of the last response.
            self.transport.close()
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
        """Close the connection that has been idle for longest, to make room for the next client."""
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
        check: refuses requests of web pages.
    """

    def __init__(self, apps: Sequence[tuple[socket.socket, ASGIApp]], check: PageCheck):
        by_port = {bound.getsockname()[1]: check.wrapped(app) for bound, app in apps}

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
