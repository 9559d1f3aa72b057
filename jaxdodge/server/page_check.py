"""Requests of web pages, which a server refuses unless their origin is allowed."""

import functools
import ipaddress
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from jaxdodge.server.http_app import json_error
from jaxdodge.server.protocol import RequestError, error_text


class PageCheck:
    """Refuses requests that a web page in a browser can send, unless its origin is allowed.

    A page can send requests to any address, which the browser marks with the page's origin. With a
    name of its own that resolves to this machine (DNS rebinding), its requests have no foreign
    origin, but that name in the Host header.

    Args:
        hosts: allowed names in Host, besides IP addresses and localhost; * allows any.
        origins: allowed origins; * allows any.
    """

    def __init__(self, hosts: Sequence[str], origins: Sequence[str]):
        self._hosts = {host.lower() for host in hosts} | {"localhost"}
        self._origins = list(origins)

    def wrapped(self, app: ASGIApp) -> ASGIApp:
        """The app behind the check, with CORS for allowed origins."""
        if self._origins:
            app = CORSMiddleware(app, self._origins, allow_methods=["*"], allow_headers=["*"])

        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            headers = dict(scope["headers"])
            error = self._error(headers.get(b"host", b"localhost"), headers.get(b"origin"))
            await (app if error is None else json_error(403, error))(scope, receive, send)

        return checked

    @functools.lru_cache(maxsize=256)  # noqa: B019
    def _error(self, host: bytes, origin: bytes | None) -> str | None:
        """What is wrong with these headers."""
        name, page = host.decode("latin-1").lower(), (origin or b"").decode("latin-1")
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        text = None
        if not ({"*", name} & self._hosts or _is_address(name)):
            text = f"Host: invalid value {name!r}; expected an IP address, localhost or --allowed-hosts"
        elif origin is not None and not {"*", page} & {*self._origins}:
            text = f"Origin: invalid value {page!r}; expected one of --allowed-origins"
        return text and error_text(RequestError(text))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
