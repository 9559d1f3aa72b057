"""The gRPC transport: grpc.aio, a server per arena on TCP and on a Unix socket."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from jaxdodge.bevy import rl_env_pb2 as messages
from jaxdodge.fields import ConfigError
from jaxdodge.server.arena import Publication
from jaxdodge.server.metrics import Metrics
from jaxdodge.server.protocol import (
    CONFIGURE_FIELDS,
    LARGEST_REQUEST,
    RefusedError,
    action_space,
    observation_space,
    refusal_text,
)
from jaxdodge.server.service import Service

SERVICE = "rl_env.RlEnvironment"
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    # Else a second server on the same port would silently share its clients.
    ("grpc.so_reuseport", 0),
)


async def _observation_space(service: Service, request: Any) -> Message:
    return messages.ObservationSpace(**observation_space(service.arena.config))


async def _action_space(service: Service, request: Any) -> Message:
    space = action_space(service.arena.config)
    if space.pop("type") == "Discrete":
        return messages.ActionSpace(discrete=messages.DiscreteSpace(**space))
    return messages.ActionSpace(box=messages.BoxSpace(**space))


async def _reset(service: Service, request: Any) -> Message:
    return messages.ResetResponse(**_published(await service.reset("grpc")))


async def _step(service: Service, request: Any) -> Message:
    kind = request.WhichOneof("action")
    action = None
    if kind == "discrete_action":
        action = request.discrete_action
    elif kind == "continuous_action":
        action = list(request.continuous_action.values)
    publication = await service.step(action, "grpc")
    return messages.StepResponse(
        **_published(publication),
        reward=float(publication.reward),
        done=publication.done,
        truncated=publication.truncated,
    )


async def _configure(service: Service, request: Any) -> Message:
    given = {name: getattr(request, name) for name in CONFIGURE_FIELDS if request.HasField(name)}
    await service.configure(given)
    return messages.ConfigureResponse()


async def _set_level(service: Service, request: Any) -> Message:
    await service.set_level(request.level)
    return messages.SetLevelResponse()


async def _start_training(service: Service, request: Any) -> Message:
    return messages.StartTrainingResponse()


async def _end_training(service: Service, request: Any) -> Message:
    return messages.EndTrainingResponse()


Operation = Callable[[Service, Any], Awaitable[Message]]
OPERATIONS: dict[str, tuple[str, type[Message], Operation]] = {
    "GetObservationSpace": ("observation_space", messages.ObservationSpaceRequest, _observation_space),
    "GetActionSpace": ("action_space", messages.ActionSpaceRequest, _action_space),
    "Reset": ("reset", messages.ResetRequest, _reset),
    "Step": ("step", messages.StepRequest, _step),
    "Configure": ("configure", messages.ConfigureRequest, _configure),
    "SetLevel": ("set_level", messages.SetLevelRequest, _set_level),
    "StartTraining": ("start_training", messages.StartTrainingRequest, _start_training),
    "EndTraining": ("end_training", messages.EndTrainingRequest, _end_training),
}


def _published(publication: Publication) -> dict[str, Any]:
    return {
        "observation": publication.observation.tolist(),
        "image_observation": publication.image or b"",
        "info": {name: json.dumps(value) for name, value in publication.info.items()},
    }


def grpc_server(service: Service, metrics: Metrics) -> grpc.aio.Server:
    """The gRPC interface of one arena; ports are the caller's to add."""

    def handler(route: str, kind: type[Message], operation: Operation) -> Any:
        async def handle(request: bytes, context: Any) -> bytes:
            start = time.perf_counter()
            outcome, refusal = "failed", None
            try:
                answer = await operation(service, _parsed(kind, request))
                outcome = "ok"
            except (RefusedError, ConfigError) as error:
                outcome, refusal = "refused", refusal_text(error)
            finally:
                metrics.answered(service.arena.number, route, outcome, time.perf_counter() - start)
            if refusal is not None:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, refusal)
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.aio.server(options=OPTIONS)
    handlers = {name: handler(*operation) for name, operation in OPERATIONS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return server


def _parsed(kind: type[Message], request: bytes) -> Message:
    """Parsed here, not by gRPC, which would answer what is no message with an internal error."""
    try:
        return kind.FromString(request)
    except DecodeError:
        raise RefusedError(
            f"request: invalid value {len(request)} bytes that are no {kind.__name__}"
        ) from None
