"""gRPC messages to and from the objects of the HTTP interface, in which an image is bytes.

Operations are the routes of the HTTP interface. Needs the extra `grpc`. Source: `docs/api.md`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf.message import Message

from jaxdodge.bevy import rl_env_pb2
from jaxdodge.fields import ConfigError


class Method(NamedTuple):
    """A method of the gRPC service."""

    name: str
    request: type[Message]
    response: type[Message]


def _methods() -> dict[str, Method]:
    methods = {}
    for method in rl_env_pb2.DESCRIPTOR.services_by_name["RlEnvironment"].methods:
        operation = re.sub("(?<=[a-z])(?=[A-Z])", "_", method.name.removeprefix("Get")).lower()
        kinds = (getattr(rl_env_pb2, kind.name) for kind in (method.input_type, method.output_type))
        methods[operation] = Method(method.name, *kinds)
    return methods


METHODS = _methods()
"""Methods by operation: `observation_space`, `step`, ..."""


def request_message(operation: str, body: Mapping[str, Any]) -> Message:
    """The message of a request; raises ConfigError for a value that its field cannot hold."""
    if operation == "step":
        action = body["action"]
        if isinstance(action, int):
            return rl_env_pb2.StepRequest(discrete_action=action)
        return rl_env_pb2.StepRequest(continuous_action=rl_env_pb2.ContinuousAction(values=action))
    request = METHODS[operation].request()
    for name, value in body.items():
        try:
            setattr(request, name, value)
        except (TypeError, ValueError):
            kind = request.DESCRIPTOR.fields_by_name[name].type  # type: ignore[attr-defined]
            raise ConfigError(
                f"{name}: invalid value {value!r}; expected a value of protobuf type {kind}"
            ) from None
    return request


def request_body(request: Any) -> dict[str, Any]:
    """The body of a request message; fields without a value are left out."""
    if isinstance(request, rl_env_pb2.SetLevelRequest):
        return {"level": request.level}
    if not isinstance(request, rl_env_pb2.StepRequest):
        return {field.name: value for field, value in request.ListFields()}
    kind = request.WhichOneof("action")
    if kind == "continuous_action":
        return {"action": [*request.continuous_action.values]}
    return {"action": request.discrete_action} if kind else {}


def response_message(operation: str, content: Mapping[str, Any]) -> Message:
    """The message of a response, whose observation is float32 (n,)."""
    fields = dict(content)
    if operation == "action_space":
        if fields.pop("type") == "Discrete":
            return rl_env_pb2.ActionSpace(discrete=rl_env_pb2.DiscreteSpace(**fields))
        return rl_env_pb2.ActionSpace(box=rl_env_pb2.BoxSpace(**fields))
    if operation in ("reset", "step"):
        fields["observation"] = fields["observation"].tolist()
        fields["info"] = {name: json.dumps(value) for name, value in fields["info"].items()}
    return METHODS[operation].response(**fields)


def response_content(response: Any) -> dict[str, Any]:
    """The content of a response message; raises ValueError if its info is not JSON."""
    if isinstance(response, rl_env_pb2.ObservationSpace):
        return {name: getattr(response, name) for name in ("dtype", "low", "high")} | {
            "shape": [*response.shape]
        }
    if isinstance(response, rl_env_pb2.ActionSpace):
        if response.WhichOneof("space_type") == "discrete":
            return {"type": "Discrete", "n": response.discrete.n}
        box = response.box
        return {"type": "Box", "shape": [*box.shape], "low": box.low, "high": box.high}
    if not isinstance(response, (rl_env_pb2.ResetResponse, rl_env_pb2.StepResponse)):
        return {}
    content: dict[str, Any] = {
        "observation": [*response.observation],
        "image_observation": response.image_observation or None,
        "info": {name: json.loads(value) for name, value in response.info.items()},
    }
    if isinstance(response, rl_env_pb2.StepResponse):
        content |= {name: getattr(response, name) for name in ("reward", "done", "truncated")}
    return content
