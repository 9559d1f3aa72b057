"""Real servers: clients, recording, timing, many servers at once. Source: the specification's API page."""

from urllib.parse import urlsplit

from jaxdodge.bevy.client import Client
from jaxdodge.fields import ConfigError

ACCEPTED = "http://HOST:PORT, grpc://HOST:PORT, unix:///PATH"


def connect(url: str, deadline: float = 5.0) -> Client:
    """A client of the server at a URL. Nothing is sent before its first call.

    Args:
        url: http://HOST:PORT, grpc://HOST:PORT or unix:///PATH (gRPC on a Unix socket).
        deadline: seconds within which every call returns or raises.

    Raises:
        ConfigError: another kind of URL, a refused deadline, or the extra `grpc` is missing.
        UnreachableError: the host of an http URL has no address.
    """
    refusal = ConfigError(f"server: invalid value {url!r}; expected {ACCEPTED}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refusal from None
    is_path = url.startswith("unix:///") and len(parts.path) > 1
    is_address = parts.scheme in ("http", "grpc") and host and port and parts.path in ("", "/")
    if not (is_path or is_address) or parts.query or parts.fragment or parts.username is not None:
        raise refusal
    if parts.scheme == "http":
        from jaxdodge.bevy.http_client import HttpClient

        return HttpClient(url, str(host), int(port or 0), deadline)
    try:
        from jaxdodge.bevy.grpc_client import GrpcClient
    except ModuleNotFoundError as error:
        raise ConfigError(f"server: {url} needs gRPC ({error}): pip install 'jaxdodge[grpc]'") from None
    return GrpcClient(url, f"unix:{parts.path}" if is_path else parts.netloc, deadline)
