"""The gRPC transport: one grpc.aio server per environment, on TCP and on a Unix socket."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from jaxdodge.bevy.messages import METHODS, Method, request_body, response_message
from jaxdodge.server.protocol import LARGEST_REQUEST, RequestError
from jaxdodge.server.service import Service

SERVICE = "rl_env.RlEnvironment"
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    # Otherwise a second server on the same port would silently get some of the clients.
    ("grpc.so_reuseport", 0),
)


def grpc_server(service: Service) -> grpc.aio.Server:
    """The gRPC interface of one environment; the caller adds its ports."""

    def handler(operation: str, method: Method) -> Any:
        async def handle(request: bytes, context: Any) -> bytes:
            try:
                with service.request(operation):
                    body = request_body(_parsed(method.request, request))
                    content = await service.respond(operation, body, "grpc")
                    return response_message(operation, content).SerializeToString()
            except RequestError as error:
                return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

        return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.aio.server(options=OPTIONS)
    handlers = {method.name: handler(operation, method) for operation, method in METHODS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return server


def _parsed(kind: type[Message], request: bytes) -> Message:
    """Parse a request here: gRPC would respond with an internal error to one that is malformed."""
    try:
        return kind.FromString(request)
    except DecodeError:
        raise RequestError(
            f"request: invalid value {len(request)} bytes; expected a {kind.DESCRIPTOR.name} message"
        ) from None
