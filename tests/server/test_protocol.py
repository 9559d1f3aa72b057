"""The protocol of `docs/api.md` over HTTP: requests, statuses, answers; what
is refused changes nothing.
"""

import json
import socket
import time

import psutil
import pytest
import requests
from served import SECONDS

BOX_5D = {"type": "Box", "shape": [5], "low": -1, "high": 1}
VECTOR = {"shape": [65], "dtype": "float32", "low": -100, "high": 100}


@pytest.fixture
def fresh(lockstep):
    """The server's defaults."""
    ask(lockstep, "set_level", {"level": 1})
    return lockstep


def connections(server) -> list:
    return [c for c in psutil.Process(server.process.pid).net_connections("tcp") if c.status != "LISTEN"]


def eventually(holds) -> None:
    expires = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < expires
        time.sleep(0.05)


def ask(server, route, body=None, method="POST", **more):
    content = {} if body is None else {"data": body if isinstance(body, (bytes, str)) else json.dumps(body)}
    return requests.request(method, f"{server.http}/{route}", timeout=SECONDS, **content, **more)


def test_defaults(fresh):
    assert ask(fresh, "observation_space", method="GET").json() == VECTOR
    assert ask(fresh, "action_space", method="GET").json() == BOX_5D
    reset = ask(fresh, "reset").json()
    assert reset == {
        "observation": [0, 0, 1] + [0] * 62,
        "info": {"episode_steps": 0, "projectile_count": 0},
    }
    step = ask(fresh, "step", {"action": [0.5, 0, 0, 0, -1]}).json()
    # Shortest text that gives the same float32 back: 0.5 * 5 m/s for one frame of 16 666 667 ns.
    assert step == {
        "observation": [0.041666668, 0, 1, 2.5] + [0] * 61,
        "reward": 1,
        "done": False,
        "truncated": False,
        "info": {"episode_steps": 1, "projectile_count": 0},
    }


@pytest.mark.parametrize("route", ["start_training", "end_training", "set_level", "configure"])
def test_commands_answer_200_without_content(fresh, route):
    answer = ask(fresh, route, {"level": 1})
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("body", [None, b"", b"{}", b"anything", b"\xff"])
def test_a_reset_takes_any_body(fresh, body):
    assert ask(fresh, "reset", body).status_code == 200


@pytest.mark.parametrize(
    ("fields", "observations", "actions"),
    [
        ({"observation_mode": "default"}, VECTOR, BOX_5D),
        ({"observation_mode": "Thrower"}, {**VECTOR, "shape": [69]}, BOX_5D),
        (
            {"observation_mode": "image", "image_obs_height": 40, "image_obs_width": 32},
            {"shape": [40, 32, 3], "dtype": "uint8", "low": 0, "high": 255},
            BOX_5D,
        ),
        (
            {"observation_mode": "topdown", "image_grayscale": True},
            {"shape": [256, 256, 1], "dtype": "uint8", "low": 0, "high": 255},
            BOX_5D,
        ),
        ({"action_space_type": "discrete"}, VECTOR, {"type": "Discrete", "n": 5}),
        ({"action_space_type": "4d_jump"}, VECTOR, {**BOX_5D, "shape": [4]}),
        ({"action_space_type": "6D"}, VECTOR, {**BOX_5D, "shape": [6]}),
        # The server states the same space whatever the speeds are.
        ({"player_speed": 50, "sprint_multiplier": 10}, VECTOR, BOX_5D),
        ({"player_speed": None, "no_such_field": 1}, VECTOR, BOX_5D),
        # The level first, whatever comes first in the request.
        ({"action_space_type": "3d", "level": 2}, VECTOR, {**BOX_5D, "shape": [3]}),
    ],
)
def test_spaces_follow_the_configuration(fresh, fields, observations, actions):
    assert ask(fresh, "configure", fields).status_code == 200
    assert ask(fresh, "observation_space", method="GET").json() == observations
    assert ask(fresh, "action_space", method="GET").json() == actions


@pytest.mark.parametrize(
    ("route", "body", "reason"),
    [
        ("step", {}, "action: missing"),
        ("step", {"action": None}, "action: missing"),
        ("step", {"action": 3}, "action: invalid value 3; expected a list of 5 numbers (vx, vy, pitch"),
        ("step", {"action": True}, "action: invalid value true"),
        ("step", {"action": "left"}, 'action: invalid value "left"'),
        ("step", {"action": {"vx": 1}}, 'action: invalid value {"vx": 1}'),
        ("step", {"action": []}, "action: "),
        ("step", {"action": [0, 0, 0, 0]}, "expected 5 numbers (vx, vy, pitch, roll, sprint)"),
        ("step", {"action": [0, 0, 0, 0, 0, 0]}, "expected 5 numbers"),
        ("step", {"action": [0, 1.0001, 0, 0, 0]}, "action (vy): invalid value 1.0001"),
        ("step", {"action": [0, 0, 0, -2, 0]}, "action (roll): invalid value -2.0"),
        ("step", {"action": [0, 0, 0, 0, 1e300]}, "action (sprint): invalid value inf"),
        ("step", {"action": [0, 0, "0", 0, 0]}, 'action (pitch): invalid value "0"'),
        ("step", {"action": [True, 0, 0, 0, 0]}, "action (vx): invalid value true"),
        ("step", {"action": [0, None, 0, 0, 0]}, "action (vy): invalid value null"),
        ("step", {"action": [[0], 0, 0, 0, 0]}, "action (vx): invalid value [0]"),
        ("step", b'{"action": [NaN, 0, 0, 0, 0]}', "body: not JSON"),
        ("step", b'{"action": [0, 0, 0', "body: not JSON"),
        ("step", b"", "body: not JSON"),
        ("step", b"[0, 0, 0, 0, 0]", "body: invalid value a JSON array"),
        ("step", b"\xff\xfe", "body: not JSON"),
        ("step", b"[" * 100_000, "body: not JSON"),
        ("set_level", {}, "level: missing; expected a whole number, 1 <= value <= 2"),
        ("set_level", {"level": 3}, "level: invalid value 3; expected a whole number, 1 <= value <= 2"),
        ("set_level", {"level": "2"}, "level: invalid value '2'"),
        ("set_level", {"level": 1.0}, "level: invalid value 1.0"),
        (
            "configure",
            {"player_speed": 0},
            "player_speed: invalid value 0; expected a number, 0 < value <= 50",
        ),
        ("configure", {"player_speed": "5"}, "player_speed: invalid value '5'"),
        ("configure", {"player_speed": [5]}, "player_speed: invalid value [5]"),
        ("configure", {"level": 2, "collision_penalty": 1}, "collision_penalty: invalid value 1"),
        ("configure", {"action_space_type": 5}, "action_space_type: invalid value 5"),
        ("configure", {"observation_mode": "3d"}, "observation_mode: invalid value '3d'"),
        ("configure", {"image_obs_width": 513}, "image_obs_width: invalid value 513"),
        ("configure", {"image_grayscale": 1}, "image_grayscale: invalid value 1; expected true or false"),
        ("configure", {"projectile_spawn_interval": 1e-10}, "projectile_spawn_interval: invalid value 1e-10"),
        ("configure", {"max_projectiles": 2.5}, "max_projectiles: invalid value 2.5"),
        ("configure", {"level": "x" * 100_000}, "level: invalid value 'xxx"),
        ("configure", b"null", "body: invalid value a JSON null"),
    ],
)
def test_refusals_name_what_the_value_and_what_is_accepted(fresh, route, body, reason):
    ask(fresh, "step", {"action": [1, 0, 0, 0, 0]})
    health = ask(fresh, "health", method="GET").json()
    answer = ask(fresh, route, body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    text = answer.json()["error"]
    assert reason in text
    assert "\n" not in text
    assert len(text) < 600
    # Nothing of it was applied.
    assert ask(fresh, "health", method="GET").json() == health
    assert ask(fresh, "observation_space", method="GET").json() == VECTOR
    assert ask(fresh, "action_space", method="GET").json() == BOX_5D
    assert ask(fresh, "step", {"action": [0, 0, 0, 0, 0]}).json()["info"]["episode_steps"] == 2


@pytest.mark.parametrize(
    ("method", "route", "status"),
    [
        ("GET", "", 404),
        ("POST", "steps", 404),
        ("POST", "reset/", 404),
        ("GET", "step", 405),
        ("DELETE", "reset", 405),
        ("POST", "observation_space", 405),
    ],
)
def test_unknown_routes_and_methods_are_refused_in_json(fresh, method, route, status):
    answer = ask(fresh, route, method=method)
    assert answer.status_code == status
    assert "no such route; expected POST /reset, POST /step" in answer.json()["error"]


@pytest.mark.parametrize("kind", ["announced", "chunked"])
def test_bodies_are_limited(fresh, kind):
    body = b" " * (2**20 + 1)
    sent = body if kind == "announced" else iter([body[:1000], body[1000:]])
    answer = requests.post(f"{fresh.http}/step", data=sent, timeout=SECONDS)
    assert answer.status_code == 413
    assert "more than 1048576 bytes" in answer.json()["error"]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /st",
        b"POST /step HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"POST /step HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"\x16\x03\x01 not HTTP at all\r\n\r\n",
        b"POST /reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n" * 20,
    ],
)
def test_clients_that_vanish_leave_nothing(fresh, sent):
    """Half a request, no request, a pipeline of them: the connections are
    gone, the server answers others.
    """
    host, port = fresh.http.removeprefix("http://").split(":")
    before = len(connections(fresh))
    opened = [socket.create_connection((host, int(port))) for _ in range(30)]
    for connection in opened:
        connection.sendall(sent)
    assert ask(fresh, "reset").status_code == 200
    for connection in opened:
        connection.close()
    assert ask(fresh, "reset").status_code == 200
    eventually(lambda: len(connections(fresh)) <= before)
    assert fresh.errors.count("Traceback") == 0


def test_what_is_no_http_is_refused_in_json(fresh):
    host, port = fresh.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]


def test_unknown_fields_are_reported_once(fresh):
    for _ in range(2):
        fields = {"projectile_sped": 1, "frame_stack": 4, "player_start_height": 2}
        assert ask(fresh, "configure", fields).status_code == 200
    for text in (
        "'projectile_sped' is ignored: no such field; did you mean projectile_speed?",
        "frame_stack is ignored: no field of the server",
        "player_start_height is ignored: not settable (always 1.0)",
    ):
        assert fresh.errors.count(text) == 1
