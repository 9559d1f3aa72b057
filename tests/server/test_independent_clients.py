"""Clients written from `docs/api.md` alone, as the original's are: they
share no code with this package.
"""

import base64
import subprocess
import sys
import textwrap

import requests

PROTO = """
syntax = "proto3";
package rl_env;
service RlEnvironment {
  rpc GetObservationSpace(ObservationSpaceRequest) returns (ObservationSpace);
  rpc GetActionSpace(ActionSpaceRequest) returns (ActionSpace);
  rpc Reset(ResetRequest) returns (ResetResponse);
  rpc Step(StepRequest) returns (StepResponse);
  rpc Configure(ConfigureRequest) returns (ConfigureResponse);
  rpc SetLevel(SetLevelRequest) returns (SetLevelResponse);
  rpc StartTraining(StartTrainingRequest) returns (StartTrainingResponse);
  rpc EndTraining(EndTrainingRequest) returns (EndTrainingResponse);
}
message ObservationSpaceRequest {}
message ObservationSpace { repeated int32 shape = 1; string dtype = 2; float low = 3; float high = 4; }
message ActionSpaceRequest {}
message DiscreteSpace { int32 n = 1; }
message BoxSpace { repeated int32 shape = 1; float low = 2; float high = 3; }
message ActionSpace { oneof space_type { DiscreteSpace discrete = 1; BoxSpace box = 2; } }
message ResetRequest {}
message ResetResponse {
  repeated float observation = 1; bytes image_observation = 2; map<string, string> info = 3;
}
message ContinuousAction { repeated float values = 1; }
message StepRequest { oneof action { int32 discrete_action = 1; ContinuousAction continuous_action = 2; } }
message StepResponse {
  repeated float observation = 1; bytes image_observation = 2; float reward = 3; bool done = 4;
  bool truncated = 5; map<string, string> info = 6;
}
message ConfigureRequest {
  optional int32 level = 1; optional string action_space_type = 2; optional float sprint_multiplier = 3;
  optional float spawn_angle_degrees = 4; optional string observation_mode = 5;
  optional float thrower_delay_seconds = 6; optional uint32 image_obs_width = 7;
  optional uint32 image_obs_height = 8; optional bool image_grayscale = 9;
  optional float collision_penalty = 10; optional float projectile_spawn_interval = 15;
}
message ConfigureResponse {}
message SetLevelRequest { int32 level = 1; }
message SetLevelResponse {}
message StartTrainingRequest {}
message StartTrainingResponse {}
message EndTrainingRequest {}
message EndTrainingResponse {}
"""

GRPC_CLIENT = """
import json, sys
import grpc
import own_pb2 as own
import own_pb2_grpc

assert not any(name.startswith("jaxdodge") for name in sys.modules)
channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.default_authority", "localhost")])
env = own_pb2_grpc.RlEnvironmentStub(channel)
env.StartTraining(own.StartTrainingRequest(), timeout=120)
env.SetLevel(own.SetLevelRequest(level=1), timeout=120)
env.Configure(own.ConfigureRequest(level=2, action_space_type="discrete", collision_penalty=-5,
                                   projectile_spawn_interval=0.1, spawn_angle_degrees=10), timeout=120)
assert env.GetActionSpace(own.ActionSpaceRequest(), timeout=120).discrete.n == 5
assert list(env.GetObservationSpace(own.ObservationSpaceRequest(), timeout=120).shape) == [65]
# A server in real time may answer with the publication before the reset.
resets = (env.Reset(own.ResetRequest(), timeout=120) for _ in range(100))
assert any(json.loads(each.info["episode_steps"]) == 0 for each in resets)
for number in range(1, 500):
    step = env.Step(own.StepRequest(discrete_action=0), timeout=120)
    assert json.loads(step.info["episode_steps"]) <= number
    if step.done:
        break
assert step.done and step.reward == -5 and not step.truncated
assert json.loads(step.info["projectile_count"]) > 2
env.Configure(own.ConfigureRequest(observation_mode="topdown", image_obs_width=84, image_obs_height=84,
                                   image_grayscale=True, action_space_type="tilt_5d"), timeout=120)
action = own.ContinuousAction(values=[1, 0, 0, 0, 1])
env.Reset(own.ResetRequest(), timeout=120)
for _ in range(10):
    step = env.Step(own.StepRequest(continuous_action=action), timeout=120)
assert len(step.image_observation) == 84 * 84 and set(step.image_observation) <= {31, 182, 111, 132, 158}
assert len(step.observation) == 0
env.EndTraining(own.EndTrainingRequest(), timeout=120)
print("done")
"""


def play_http(url: str) -> None:
    session = requests.Session()
    for route in ("start_training", "set_level"):
        assert session.post(f"{url}/{route}", json={"level": 1}, timeout=120).status_code == 200
    fields = {"level": 2, "action_space_type": "basic_3d", "projectile_spawn_interval": 0.1}
    more = {"spawn_angle_degrees": 10, "collision_penalty": -7}
    assert session.post(f"{url}/configure", json={**fields, **more}, timeout=120).status_code == 200
    assert session.get(f"{url}/action_space", timeout=120).json()["shape"] == [3]
    size = session.get(f"{url}/observation_space", timeout=120).json()["shape"][0]
    first = session.post(f"{url}/reset", json={}, timeout=120).json()
    assert len(first["observation"]) == size
    assert first["info"]["episode_steps"] == 0
    step = {}
    for _ in range(500):
        step = session.post(f"{url}/step", json={"action": [0.0, 0.0, -1.0]}, timeout=120).json()
        if step["done"]:
            break
    assert step["done"]
    assert step["reward"] == -7
    image = {"observation_mode": "topdown", "image_obs_width": 64, "image_obs_height": 64}
    assert session.post(f"{url}/configure", json=image, timeout=120).status_code == 200
    for route, body in (("reset", {}), ("step", {"action": [0, 1, 0]})):
        answer = session.post(f"{url}/{route}", json=body, timeout=120).json()
        assert answer["observation"] == []
        assert len(base64.b64decode(answer["image_observation"])) == 64 * 64 * 3
    refused = session.post(f"{url}/step", json={"action": [0, 2, 0]}, timeout=120)
    assert refused.status_code == 400
    assert "vy" in refused.json()["error"]
    assert session.post(f"{url}/end_training", timeout=120).status_code == 200


def play_grpc(target: str, folder) -> None:
    """In a process of its own, because two descriptors of the same name clash in one."""
    (folder / "own.proto").write_text(PROTO)
    (folder / "client.py").write_text(textwrap.dedent(GRPC_CLIENT))
    compiler = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=."]
    subprocess.run([*compiler, "own.proto"], cwd=folder, check=True, timeout=120)
    played = subprocess.run(
        [sys.executable, "client.py", target], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert played.stdout == "done\n", played.stderr


def test_a_client_with_requests(lockstep):
    play_http(lockstep.http)


def test_a_client_with_grpcio(lockstep, tmp_path):
    play_grpc(lockstep.addresses("unix")[0].replace("unix://", "unix:"), tmp_path)


def test_both_against_the_wall_clock(arenas, tmp_path):
    play_http(arenas.http)
    play_grpc(arenas.addresses("grpc")[0].removeprefix("grpc://"), tmp_path)
