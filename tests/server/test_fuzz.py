"""Malformed requests: each is refused with a reason, and the game goes on bit for bit."""

import asyncio
import contextlib
import json
import random
import socket
import struct

import grpc
import numpy as np
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from mutations import COMMON, mutated
from served import SECONDS, SEED, running

from benchmarks.soak import resident_bytes
from jaxdodge.config import GameConfig
from jaxdodge.server.game import move_of
from jaxdodge.server.lockstep import LockstepEnv

STILL = [0.0, 0.0, 0.0, 0.0, 0.0]
WRONG_NUMBERS = ["1", "", True, None, [], {}, [0.5], {"a": 1}, 1e999, -1e999, float("nan"), 1.5, -7, 10**40]
# A value of each field that is none of its values, whatever the type;
# null means that it is not given.
WRONG_FIELDS = {
    "level": [0, 3, -1, "1", 1.5, True, [1], {}],
    "action_space_type": ["", "7d", 5, True, ["discrete"], {}],
    "observation_mode": ["", "stand ard", 1, False, []],
    "player_speed": [0, -1, 51, "5", True, [5], 10**40],
    "sprint_multiplier": [-0.1, 11, "2", False],
    "spawn_angle_degrees": [0, 181, "60", []],
    "thrower_delay_seconds": [0, 11, 1e-10, "1"],
    "image_obs_width": [31, 513, 84.0, "84", True],
    "image_obs_height": [31, 513, 84.5, -84],
    "image_grayscale": [0, 1, "true", []],
    "collision_penalty": [1, "-1", True],
    "survival_reward": [-101, 101, "1"],
    "dodge_bonus_threshold": [0, 51],
    "dodge_bonus_multiplier": [-1, 101],
    "projectile_speed": [0, 51],
    "projectile_spawn_interval": [0, 61, 1e-10],
    "max_projectiles": [0, 1001, 2.5],
}


def wrong_action(generator):
    action = list(STILL)
    if generator.random() < 0.2:
        return generator.choice([3, -1, "left", True, {}, action[:-1], [*action, 0.0], [], [[]], "0" * 5000])
    action[generator.randrange(5)] = generator.choice(WRONG_NUMBERS)
    return action


def wrong_fields(generator):
    name = generator.choice(list(WRONG_FIELDS))
    fields = {"level": 2, "player_speed": 9.0, name: generator.choice(WRONG_FIELDS[name])}
    return dict(generator.sample(list(fields.items()), len(fields)))


def wrong_body(generator) -> tuple[str, bytes]:
    """Route and content."""
    kind = generator.randrange(4)
    if kind == 0:
        return "step", json.dumps({"action": wrong_action(generator)}).encode()
    if kind == 1:
        return "configure", json.dumps(wrong_fields(generator)).encode()
    route = generator.choice(["step", "configure", "set_level"])
    valid = {"step": {"action": STILL}, "configure": {"level": 2}, "set_level": {"level": 2}}[route]
    text = json.dumps(valid).encode()
    if kind == 2:  # a part of an object is none
        return route, text[: generator.randrange(len(text))]
    place = generator.randrange(len(text) + 1)
    noise = bytes(generator.choice(b"\x00\xff\xfe{}[]\"'\\,:") for _ in range(generator.randint(1, 9)))
    return route, text[:place] + b"\xff" + noise + text[place:]


def refused_over_http(session, url, generator) -> None:
    kind = generator.random()
    if kind < 0.02:
        body = b'{"action": "' + b"0" * 2**20 + b'"}'
        sent = body if kind < 0.01 else iter([body[:70_000], body[70_000:]])
        answer, statuses = session.post(f"{url}/step", data=sent, timeout=SECONDS), {413}
    elif kind < 0.2:
        method = generator.choice(["GET", "PUT", "DELETE", "PATCH", "POST"])
        route = generator.choice(["", "steps", "step/", "%00", "step%2f", "a" * 3000, "STEP", "é"])
        answer, statuses = session.request(method, f"{url}/{route}", timeout=SECONDS), {404, 405}
    else:
        route, body = wrong_body(generator)
        answer, statuses = session.post(f"{url}/{route}", data=body, timeout=SECONDS), {400}
    assert answer.status_code in statuses, (answer.request.url, answer.request.body, answer.text)
    assert list(answer.json()) == ["error"]
    assert 5 < len(answer.json()["error"]) < 600


def refused_over_grpc(channel, generator) -> None:
    floats = struct.pack("<5f", *STILL)
    step = b"\x12\x16\x0a\x14" + floats
    nothing = {grpc.StatusCode.INVALID_ARGUMENT}
    kind = generator.randrange(5)
    if kind == 0:
        method, sent = "Step", step[: generator.randrange(len(step))]
    elif kind == 1:
        wrong = struct.pack("<f", generator.choice([float("nan"), float("inf"), -1.5, 2.0]))
        place = 4 + 4 * generator.randrange(5)
        method, sent = "Step", step[:place] + wrong + step[place + 4 :]
    elif kind == 2:
        method, sent = generator.choice(["Step", "Configure", "SetLevel"]), b"\xff" * generator.randint(1, 50)
    elif kind == 3:
        method, sent = "SetLevel", b"\x08" + bytes([generator.choice([0, 3, 100])])
    else:
        method, sent = generator.choice(["step", "Steps", "Close", ""]), step
        nothing = {grpc.StatusCode.UNIMPLEMENTED}
    with pytest.raises(grpc.RpcError) as refusal:
        channel.unary_unary(f"/rl_env.RlEnvironment/{method}")(sent, timeout=SECONDS)
    assert refusal.value.code() in nothing, (method, sent)
    assert len(refusal.value.details()) > 5


def vanished(url, generator) -> None:
    """No HTTP, or half of it; whoever sent it is gone."""
    host, port = url.removeprefix("http://").split(":")
    head = (
        b"POST /step HTTP/1.1\r\nHost: localhost\r\nContent-Length: 27\r\n\r\n"
        + b'{"action": [0, 0, 0, 0, 0]}'
    )
    noise = bytes(generator.randrange(256) for _ in range(100))
    sent = generator.choice([noise, head[: generator.randrange(len(head))]])
    with socket.create_connection((host, int(port))) as connection, contextlib.suppress(OSError):
        connection.sendall(sent)


BODY = json.dumps({"action": STILL})
ROUTES = ["step", "configure", "set_level", "reset", "start_training", "action_space"]
MESSAGES = {"Step": b"\x12\x16\x0a\x14" + bytes(20), "SetLevel": b"\x08\x02", "Configure": b"\x08\x02"}


def answered(server, data: bytes) -> bytes:
    """What a server responds to these bytes and the end of the connection."""
    host, port = server.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        try:
            return connection.makefile("rb").read()
        except ConnectionResetError:
            return b""


@pytest.fixture(scope="module")
def asked(folder):
    """A server, a session and a channel, and at the end what it said and how much it grew."""
    with running(folder, "--http", "--port", 0, "--grpc-port", 0, "--mode", "lockstep") as server:
        yield from _asked(server)


def _asked(server):
    target = server.addresses("grpc")[0].removeprefix("grpc://")
    for _ in range(20):
        requests.post(f"{server.http}/step", json={"action": STILL}, timeout=SECONDS)
    before = resident_bytes(server.process.pid)
    with requests.Session() as session, grpc.insecure_channel(target) as channel:
        yield server, session, channel
    assert requests.post(f"{server.http}/reset", timeout=SECONDS).ok
    assert "Traceback" not in server.errors
    assert resident_bytes(server.process.pid) - before < 200 * 2**20


@COMMON
@given(st.sampled_from(ROUTES), mutated('{"action": [0.0, 0.5, 0.0, 0.0, 0.0], "level": 2}'))
def test_any_body_is_answered(asked, route, body):
    server, session, _ = asked
    method = "GET" if route == "action_space" else "POST"
    answer = session.request(method, f"{server.http}/{route}", data=body, timeout=SECONDS)
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert 5 < len(answer.json()["error"]) < 600


@COMMON
@given(mutated(f"POST /step HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"))
def test_any_bytes_end(asked, data):
    answer = answered(asked[0], data)
    assert answer.startswith(b"HTTP/1.1 ") or not answer
    assert b"HTTP/1.1 500" not in answer


@COMMON
@given(
    st.sampled_from(list(MESSAGES)),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.binary(max_size=9)), max_size=4),
)
def test_any_message_is_answered(asked, method, changes):
    data = MESSAGES[method]
    for place, length, piece in changes:
        data = data[:place] + piece + data[place + length :]
    call = asked[2].unary_unary(f"/rl_env.RlEnvironment/{method}").future(data, timeout=SECONDS)
    assert call.code() in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.fixture
def lockstep(serve, folder):
    """A server that no other test has configured."""
    log = folder / "fuzz.log"
    transports = ("--http", "--port", 0, "--grpc-port", 0)
    server = serve(*transports, "--mode", "lockstep", "--seed", SEED, "--log", log)
    server.log = log
    return server


@pytest.mark.slow
def test_malformed_requests_change_nothing(lockstep):
    """A twin of the environment gets only the valid requests; both give the
    same responses, bit for bit.
    """
    generator, session = random.Random(1), requests.Session()
    twin = LockstepEnv(0, GameConfig(), SEED)
    twin.start()
    session.post(f"{lockstep.http}/reset", timeout=SECONDS)
    twin.requests = lockstep.requests()
    fields = {"level": 2, "projectile_spawn_interval": 0.1}
    assert session.post(f"{lockstep.http}/configure", json=fields, timeout=SECONDS).status_code == 200
    asyncio.run(twin.configure(fields))

    def play_on() -> None:
        action = [generator.uniform(-1, 1) for _ in STILL]
        step = session.post(f"{lockstep.http}/step", json={"action": action}, timeout=SECONDS).json()
        _, expected = asyncio.run(twin.step(move_of(np.array(action, np.float32), "tilt_5d"), "http"))
        np.testing.assert_array_equal(np.float32(step["observation"]), expected.observation)
        assert np.float32(step["reward"]) == expected.reward
        assert (step["done"], step["info"]) == (expected.done, expected.info)

    target = lockstep.addresses("grpc")[0].removeprefix("grpc://")
    with grpc.insecure_channel(target) as channel:
        for number in range(2000):
            way = number % 10
            if way == 9:
                vanished(lockstep.http, generator)
            elif way >= 6:
                refused_over_grpc(channel, generator)
            else:
                refused_over_http(session, lockstep.http, generator)
            if number % 4 == 0:
                play_on()
    assert twin.requests == lockstep.requests()
    assert "Traceback" not in lockstep.errors
