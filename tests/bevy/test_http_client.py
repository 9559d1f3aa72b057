"""The HTTP client against servers that answer well, badly, late, in part, or not at all."""

import base64
import json
import socket
import struct
import time

import numpy as np
import pytest
from fake_servers import INFO, RESET, STEP, VECTOR_SPACE, answer, drip, http_server

from jaxdodge.bevy import connect
from jaxdodge.bevy.client import BadResponseError, RefusedError, ServerTimeoutError, UnreachableError
from jaxdodge.bevy.responses import ActionSpace, ObservationSpace

IMAGE_SPACE = {"shape": [32, 40, 3], "dtype": "uint8", "low": 0.0, "high": 255.0}
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
IMAGE = RESET | {"observation": [], "image_observation": base64.b64encode(PIXELS.tobytes()).decode()}


def send(data: bytes, goes_on: bool = True):
    def reply(connection, operation, body):
        connection.sendall(data)
        return goes_on

    return reply


def test_good_answers_arrive_as_they_were_sent():
    with http_server() as server:
        client = connect(server.url)
        assert client.observation_space() == ObservationSpace((65,), "float32", -100.0, 100.0)
        assert client.action_space() == ActionSpace(shape=(3,))
        response = client.reset()
        assert response.observation.dtype == np.float32
        np.testing.assert_array_equal(response.observation, np.full(65, 0.1, np.float32))
        assert (response.reward, response.terminated, response.truncated) == (0.0, False, False)
        response = client.step([0.5, np.float32(0.1), -1])
        assert (response.episode_steps, response.projectile_count, response.image) == (7, 2, None)
        assert (response.reward, response.terminated, response.truncated) == (1.0625, False, True)
        client.step(3)
        client.configure(level=2, spawn_angle_degrees=np.float32(30))
        client.set_level(1)
        client.start_training()
        client.end_training()
        client.close()
    assert server.connections == 1
    bodies = [(operation, json.loads(body) if body else None) for operation, body in server.requests]
    assert bodies == [
        ("observation_space", None),
        ("action_space", None),
        ("reset", None),
        ("step", {"action": [0.5, float(np.float32(0.1)), -1.0]}),
        ("step", {"action": 3}),
        ("configure", {"level": 2, "spawn_angle_degrees": 30.0}),
        ("set_level", {"level": 1}),
        ("start_training", None),
        ("end_training", None),
    ]


def test_images_are_checked_against_the_space_which_is_asked_again_after_configure():
    spaces = iter([IMAGE_SPACE, VECTOR_SPACE])
    with http_server(
        observation_space=lambda connection, *_: connection.sendall(answer(next(spaces))),
        reset=IMAGE,
        step=answer(STEP),
    ) as server:
        client = connect(server.url)
        for _ in range(2):
            response = client.reset()
            np.testing.assert_array_equal(response.image, PIXELS)
            assert response.observation.shape == (0,)
        client.configure(observation_mode="standard")
        assert client.step(0).image is None
        client.close()
    asked = [operation for operation, _ in server.requests]
    # After the answer, not before: a later frame applies what was configured.
    assert asked == ["reset", "observation_space", "reset", "configure", "step", "observation_space"]


def test_the_name_that_servers_refuse_is_sent_as_its_alias():
    with http_server() as server:
        connect(server.url).configure(action_space_type="basic_4d_jump")
    assert json.loads(server.requests[0][1]) == {"action_space_type": "basic_4d"}


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
STEP_BYTES = json.dumps(STEP).encode()
BAD_STEPS = {
    "not HTTP": (send(b"hello\r\n\r\n"), "not HTTP"),
    "endless header line": (send(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000), "not HTTP"),
    "too many headers": (send(b"HTTP/1.1 200 OK\r\n" + b"A: a\r\n" * 200 + b"\r\n"), "not HTTP"),
    "status 500": (send(answer(b"oh no", "500 Internal Server Error")), "status 500: oh no"),
    "redirection": (send(answer("", "302 Found", "Location: /reset\r\n")), "status 302"),
    "no JSON": (answer(b"{"), "not JSON"),
    "empty": ("", "not JSON"),
    "deep JSON": (answer(b"[" * 100_000), "not JSON"),
    "no object": ([1, 2], "not a JSON object"),
    "no observation": ({"info": INFO}, "observation is None, not a list of numbers"),
    "image not base64": (STEP | {"image_observation": "A*A="}, "not base64"),
    "image a number": (STEP | {"image_observation": 5}, "not base64"),
    "too large": (send(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"), "more than 4194304 bytes"),
    "chunk too large": (send(CHUNKED % (2**23, b" " * 2**23)), "more than 4194304 bytes"),
    "without length": (
        send(b"HTTP/1.1 200 OK\r\n\r\n" + STEP_BYTES, goes_on=False),
        "without Content-Length",
    ),
    "half a header": (send(b"HTTP/1.1 200 OK\r\nContent-Le", goes_on=False), "without Content-Length"),
}


@pytest.mark.parametrize(("step", "reason"), BAD_STEPS.values(), ids=BAD_STEPS)
def test_what_is_not_the_protocols_answer_is_named_and_the_next_call_connects_again(step, reason):
    with http_server(step=step) as server:
        client = connect(server.url)
        client.reset()
        with pytest.raises(BadResponseError) as caught:
            client.step(0)
        line = str(caught.value)
        assert reason in line
        assert line.startswith(server.url)
        assert "\n" not in line
        assert len(line) < 500
        client.reset()
        client.close()
    assert server.connections == 2
    assert [operation for operation, _ in server.requests].count("step") == 1


UNUSUAL = {
    "chunked": (send(CHUNKED % (len(STEP_BYTES), STEP_BYTES)), 1),
    "100 Continue first": (send(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(STEP)), 1),
    "will close": (send(answer(STEP, headers="Connection: close\r\n")), 3),
    "HTTP/1.0": (send(answer(STEP).replace(b"HTTP/1.1", b"HTTP/1.0"), goes_on=False), 3),
    "numbers without a point": (STEP | {"observation": [0] * 65, "reward": 1}, 1),
    "further fields": (STEP | {"image_observation": None, "more": 1}, 1),
}


@pytest.mark.parametrize(("step", "connections"), UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_but_good_answers(step, connections):
    with http_server(step=step) as server:
        client = connect(server.url)
        client.reset()
        assert client.step(0).episode_steps == 7
        assert client.step(0).episode_steps == 7
        client.reset()
        client.close()
    assert server.connections == connections


def reset_connection(connection, operation, body):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return False


LOST = {
    "closes": lambda *_: False,
    "resets": reset_connection,
    "half a body": send(answer(STEP)[:-10], goes_on=False),
    "half a chunk": send((CHUNKED % (len(STEP_BYTES), STEP_BYTES))[:-50], goes_on=False),
}


@pytest.mark.parametrize("step", LOST.values(), ids=LOST)
def test_a_connection_that_breaks_is_unreachable_and_nothing_is_sent_twice(step):
    with http_server(step=step) as server:
        client = connect(server.url)
        client.reset()
        with pytest.raises(UnreachableError, match=server.url):
            client.step(0)
        assert [operation for operation, _ in server.requests].count("step") == 1
        assert client.reset().episode_steps == 7
        client.close()


SLOW = {
    "says nothing": lambda *_: None,
    "drips its headers": lambda connection, *_: drip(connection, answer(STEP), 0.05),
    "drips its body": lambda connection, *_: (
        connection.sendall(answer(STEP)[:60]),
        drip(connection, answer(STEP)[60:], 0.05),
    ),
    "endless 100 Continue": lambda connection, *_: drip(
        connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 99, 0.01
    ),
}


@pytest.mark.parametrize("step", SLOW.values(), ids=SLOW)
def test_the_timeout_bounds_the_whole_call(step):
    with http_server(step=step) as server:
        client = connect(server.url, timeout=10)
        client.reset()
        client.timeout = 0.3
        start = time.monotonic()
        with pytest.raises(ServerTimeoutError, match=r"step: no response in 0\.3 s"):
            client.step(0)
        assert 0.29 < time.monotonic() - start < 1.5
        client.close()


def test_a_late_answer_is_never_taken_for_the_next_one():
    def late(connection, operation, body):
        time.sleep(0.4)
        connection.sendall(answer(STEP | {"info": INFO | {"episode_steps": 999}}))

    with http_server(step=late) as server:
        client = connect(server.url, timeout=0.2)
        with pytest.raises(ServerTimeoutError):
            client.step(0)
        time.sleep(0.4)
        client.timeout = 10
        assert client.reset().episode_steps == 7


def test_an_answer_that_nobody_asked_for_is_never_taken_for_one():
    with http_server(
        observation_space=lambda connection, *_: (
            connection.sendall(answer(VECTOR_SPACE)),
            time.sleep(0.1),
            connection.sendall(answer(RESET)),
        )
    ) as server:
        client = connect(server.url)
        client.observation_space()
        time.sleep(0.3)
        with pytest.raises(BadResponseError, match="not requested"):
            client.step(0)
    assert [operation for operation, _ in server.requests] == ["observation_space"]


def test_a_connection_closed_between_calls_is_said_before_anything_is_sent():
    with http_server(reset=send(answer(RESET), goes_on=False)) as server:
        client = connect(server.url)
        client.action_space()
        with pytest.raises(UnreachableError):
            client.reset()  # its question for the space finds the connection closed
        with pytest.raises(UnreachableError):
            client.reset()
        assert [operation for operation, _ in server.requests] == ["action_space", "reset", "reset"]


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"http://127.0.0.1:{port}: reset: Connection refused"):
        connect(f"http://127.0.0.1:{port}").reset()


REFUSED = {
    "error": (answer({"error": "spawn_angle_degrees: 181\nis refused"}, "400 Bad Request"), "181 is refused"),
    "other JSON": (answer(["no"], "400 Bad Request"), r"refused: \[\"no\"\]"),
    "text": (answer(b"no \xff", "400 Bad Request"), "refused: no"),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_refusals_bring_the_servers_reason(content, reason):
    with http_server(configure=content) as server, pytest.raises(RefusedError, match=reason):
        connect(server.url).configure(spawn_angle_degrees=181)


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with http_server() as server:
        connect(server.url).reset()
