"""The protocol of `docs/api.md` over gRPC: defaults, refusals, what is no message."""

import grpc
import pytest
from served import SECONDS

from jaxdodge.bevy import rl_env_pb2 as messages
from jaxdodge.bevy.rl_env_pb2_grpc import RlEnvironmentStub

LOCALHOST = [("grpc.default_authority", "localhost")]


@pytest.fixture(params=["grpc", "unix"], scope="module")
def channel(lockstep, request):
    target = lockstep.addresses(request.param)[0].replace("grpc://", "").replace("unix://", "unix:")
    with grpc.insecure_channel(target, options=LOCALHOST) as channel:
        yield channel


@pytest.fixture
def stub(channel):
    stub = RlEnvironmentStub(channel)
    stub.SetLevel(messages.SetLevelRequest(level=1), timeout=SECONDS)
    return stub


def moving(*values) -> messages.StepRequest:
    return messages.StepRequest(continuous_action=messages.ContinuousAction(values=values))


def test_defaults(stub):
    space = stub.GetObservationSpace(messages.ObservationSpaceRequest())
    assert (list(space.shape), space.dtype, space.low, space.high) == ([65], "float32", -100, 100)
    actions = stub.GetActionSpace(messages.ActionSpaceRequest())
    assert actions == messages.ActionSpace(box=messages.BoxSpace(shape=[5], low=-1, high=1))
    reset = stub.Reset(messages.ResetRequest())
    assert list(reset.observation) == [0, 0, 1] + [0] * 62
    assert reset.image_observation == b""
    assert reset.info == {"episode_steps": "0", "projectile_count": "0"}
    step = stub.Step(moving(0.5, 0, 0, 0, -1))
    assert step.observation[3] == 2.5
    assert (step.reward, step.done, step.truncated) == (1, False, False)
    assert step.info == {"episode_steps": "1", "projectile_count": "0"}
    assert stub.StartTraining(messages.StartTrainingRequest()) == messages.StartTrainingResponse()
    assert stub.EndTraining(messages.EndTrainingRequest()) == messages.EndTrainingResponse()


def test_discrete_actions_and_images(stub):
    fields = {"image_obs_width": 40, "image_obs_height": 32, "image_grayscale": True}
    request = messages.ConfigureRequest(action_space_type="discrete", observation_mode="image", **fields)
    assert stub.Configure(request, timeout=SECONDS) == messages.ConfigureResponse()
    actions = stub.GetActionSpace(messages.ActionSpaceRequest())
    assert actions == messages.ActionSpace(discrete=messages.DiscreteSpace(n=5))
    space = stub.GetObservationSpace(messages.ObservationSpaceRequest())
    assert (list(space.shape), space.dtype, space.low, space.high) == ([32, 40, 1], "uint8", 0, 255)
    step = stub.Step(messages.StepRequest(discrete_action=0))
    assert (len(step.observation), len(step.image_observation)) == (0, 32 * 40)


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("Step", messages.StepRequest(), "action: missing"),
        ("Step", messages.StepRequest(discrete_action=0), "action: invalid value 0; expected a list of 5"),
        ("Step", moving(), "expected 5 numbers (vx, vy, pitch, roll, sprint)"),
        ("Step", moving(0, 0, 0, 0, float("nan")), "action (sprint): invalid value nan"),
        ("Step", moving(float("-inf"), 0, 0, 0, 0), "action (vx): invalid value -inf"),
        ("SetLevel", messages.SetLevelRequest(), "level: invalid value 0; expected a whole number, 1"),
        ("Configure", messages.ConfigureRequest(level=-1), "level: invalid value -1"),
        (
            "Configure",
            messages.ConfigureRequest(player_speed=float("nan")),
            "player_speed: invalid value nan",
        ),
        ("Configure", messages.ConfigureRequest(observation_mode=""), "observation_mode: invalid value ''"),
        ("Configure", messages.ConfigureRequest(image_obs_width=0), "image_obs_width: invalid value 0"),
    ],
)
def test_refusals_have_the_text_of_http(stub, method, request_, reason):
    with pytest.raises(grpc.RpcError) as refusal:
        getattr(stub, method)(request_, timeout=SECONDS)
    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason in refusal.value.details()
    assert stub.Step(moving(0, 0, 0, 0, 0)).info["episode_steps"] == "1"


@pytest.mark.parametrize(
    ("method", "sent", "code"),
    [
        ("Step", moving(0, 0, 0, 0, 0).SerializeToString()[:-1], grpc.StatusCode.INVALID_ARGUMENT),
        ("Configure", b"\xff" * 20, grpc.StatusCode.INVALID_ARGUMENT),
        ("Configure", b"\0" * (2**20 + 1), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("Steps", b"", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_what_is_no_request_is_refused(channel, stub, method, sent, code):
    with pytest.raises(grpc.RpcError) as refusal:
        channel.unary_unary(f"/rl_env.RlEnvironment/{method}")(sent, timeout=SECONDS)
    assert refusal.value.code() == code
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        assert f"{len(sent)} bytes; expected a {method}Request message" in refusal.value.details()
    assert stub.Step(moving(0, 0, 0, 0, 0)).info["episode_steps"] == "1"
