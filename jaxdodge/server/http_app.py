"""The HTTP interface of an environment: routes, bodies and errors, with Starlette."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jaxdodge.server.metrics import Metrics, health
from jaxdodge.server.protocol import LARGEST_REQUEST, RequestError, error_text
from jaxdodge.server.served_env import ServedEnv
from jaxdodge.server.service import Service

BODY_SECONDS = 10.0
"""Time limit for a client to send the head of a request, and for its body."""
DEEPEST = 16
"""Levels of nesting in a JSON body; valid ones have two."""
KINDS = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
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
        raise RequestError(f"body: invalid value a JSON {KINDS[type(content)]}; expected a JSON object")
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
                return json_error(400, str(error))
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
        return json_error(error.status_code, text, headers)

    def broke(request: Request, error: Exception) -> Response:
        return json_error(500, "internal error; see the server's standard error")

    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: failed, Exception: broke},
    )
    app.router.redirect_slashes = False
    return app


def json_error(status: int, text: str, headers: Any = None) -> Response:
    """An error response: `{"error": text}`."""
    return Response(orjson.dumps({"error": text}), status, headers, "application/json")
