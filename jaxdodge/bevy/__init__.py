"""Clients of real game servers: connections, recording, many servers as one environment."""

from urllib.parse import urlsplit

from jaxdodge.bevy.client import Client
from jaxdodge.fields import ConfigError

URLS = "http://HOST:PORT, grpc://HOST:PORT or unix:///PATH"


def connect(url: str, timeout: float = 5.0, name: str = "server") -> Client:
    """A client of the server at a URL. Its first call connects.

    Args:
        url: http://HOST:PORT, grpc://HOST:PORT or unix:///PATH (gRPC on a Unix socket).
        timeout: seconds within which every call returns or raises.
        name: option or argument that the URL comes from, for messages.

    Raises:
        ConfigError: invalid URL or timeout, or the extra `grpc` is missing.
        UnreachableError: the host of an http URL has no address.
    """
    invalid = ConfigError(f"{name}: invalid value {url!r}; expected {URLS}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise invalid from None
    is_path = url.startswith("unix:///") and len(parts.path) > 1
    is_address = parts.scheme in ("http", "grpc") and host and port and parts.path in ("", "/")
    if not (is_path or is_address) or parts.query or parts.fragment or parts.username is not None:
        raise invalid
    if parts.scheme == "http":
        from jaxdodge.bevy.http_client import HttpClient

        return HttpClient(url, str(host), int(port or 0), timeout)
    try:
        from jaxdodge.bevy.grpc_client import GrpcClient
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name}: {url} needs gRPC ({error}): pip install 'jaxdodge[grpc]'") from None
    return GrpcClient(url, f"unix:{parts.path}" if is_path else parts.netloc, timeout)
