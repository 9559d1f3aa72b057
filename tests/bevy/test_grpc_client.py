"""The gRPC client against servers in threads, over TCP and over Unix sockets."""

import contextlib
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from fake_servers import drip

from jaxdodge.bevy import connect
from jaxdodge.bevy import rl_env_pb2 as messages
from jaxdodge.bevy.client import BadResponseError, RefusedError, ServerTimeoutError, UnreachableError
from jaxdodge.bevy.grpc_client import _connected
from jaxdodge.bevy.responses import ActionSpace, ObservationSpace
from jaxdodge.bevy.rl_env_pb2_grpc import RlEnvironmentServicer, add_RlEnvironmentServicer_to_server
from jaxdodge.fields import ConfigError

INFO = {"episode_steps": "7", "projectile_count": "2"}
VECTOR = [0.1] * 65
GOOD = {
    "GetObservationSpace": messages.ObservationSpace(shape=[65], dtype="float32", low=-100, high=100),
    "GetActionSpace": messages.ActionSpace(box=messages.BoxSpace(shape=[3], low=-1, high=1)),
    "Reset": messages.ResetResponse(observation=VECTOR, info=INFO),
    "Step": messages.StepResponse(observation=VECTOR, reward=0.1, done=True, info=INFO),
    "Configure": messages.ConfigureResponse(),
    "SetLevel": messages.SetLevelResponse(),
    "StartTraining": messages.StartTrainingResponse(),
    "EndTraining": messages.EndTrainingResponse(),
}


class Servicer(RlEnvironmentServicer):
    """Good answers but for those given: messages, or functions of request and context."""

    def __init__(self, answers):
        self.requests: list[tuple[str, object]] = []
        self.authorities: set[str] = set()
        for name, content in (GOOD | answers).items():
            setattr(self, name, self._method(name, content))

    def _method(self, name, content):
        def method(request, context):
            self.requests.append((name, request))
            return content(request, context) if callable(content) else content

        return method


@contextlib.contextmanager
def grpc_server(path=None, **answers):
    """The servicer and the URL of a server."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    servicer = Servicer(answers)
    add_RlEnvironmentServicer_to_server(servicer, server)
    if path is None:
        url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        server.add_insecure_port(f"unix:{path}")
        url = f"unix://{path}"
    server.start()
    try:
        yield servicer, url
    finally:
        server.stop(0).wait(10)


@pytest.fixture(params=["TCP", "Unix socket"])
def socket_path(request, tmp_path):
    return None if request.param == "TCP" else tmp_path / "rl.sock"


def test_good_answers_arrive_as_they_were_sent(socket_path):
    with grpc_server(socket_path) as (servicer, url):
        client = connect(url)
        assert client.observation_space() == ObservationSpace((65,), "float32", -100.0, 100.0)
        assert client.action_space() == ActionSpace(shape=(3,))
        response = client.reset()
        np.testing.assert_array_equal(response.observation, np.full(65, 0.1, np.float32))
        assert (response.reward, response.terminated, response.image) == (0.0, False, None)
        response = client.step([0.5, 0.1, -1])
        assert response.reward == float(np.float32(0.1))
        assert (response.terminated, response.truncated) == (True, False)
        assert (response.episode_steps, response.projectile_count) == (7, 2)
        client.step(np.int32(3))
        client.configure(level=2, image_grayscale=True, image_obs_width=np.int64(40), player_speed=5)
        client.set_level(1)
        client.start_training()
        client.end_training()
        client.close()
    action = messages.ContinuousAction(values=[0.5, np.float32(0.1), -1])
    configured = messages.ConfigureRequest(level=2, image_grayscale=True, image_obs_width=40, player_speed=5)
    assert servicer.requests == [
        ("GetObservationSpace", messages.ObservationSpaceRequest()),
        ("GetActionSpace", messages.ActionSpaceRequest()),
        ("Reset", messages.ResetRequest()),
        ("Step", messages.StepRequest(continuous_action=action)),
        ("Step", messages.StepRequest(discrete_action=3)),
        ("Configure", configured),
        ("SetLevel", messages.SetLevelRequest(level=1)),
        ("StartTraining", messages.StartTrainingRequest()),
        ("EndTraining", messages.EndTrainingRequest()),
    ]


def test_the_largest_images_arrive():
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    with grpc_server(
        GetObservationSpace=messages.ObservationSpace(shape=[512, 512, 3], dtype="uint8", high=255),
        Reset=messages.ResetResponse(image_observation=pixels.tobytes(), info=INFO),
    ) as (_, url):
        client = connect(url)
        np.testing.assert_array_equal(client.reset().image, pixels)
        client.close()


def test_discrete_actions():
    with grpc_server(
        GetActionSpace=messages.ActionSpace(discrete=messages.DiscreteSpace(n=5)),
    ) as (_, url):
        assert connect(url).action_space() == ActionSpace(n=5)


def test_an_authority_that_strict_servers_accept_is_sent_to_a_unix_socket(tmp_path):
    """Seen on the wire, because Python's own servers accept any."""
    path = tmp_path / "raw.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        received = []

        def accept():
            connection, _ = listener.accept()
            # Empty SETTINGS, so that the client goes on to its request.
            connection.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            connection.settimeout(5)
            with contextlib.suppress(OSError), connection:
                while data := connection.recv(65536):
                    received.append(data)

        thread = threading.Thread(target=accept)
        thread.start()
        client = connect(f"unix://{path}", timeout=0.5)
        with pytest.raises(ServerTimeoutError):
            client.reset()
        thread.join(10)
    sent = b"".join(received)
    assert b"localhost" in sent
    assert b"raw.sock" not in sent


def abort(code, details):
    return lambda request, context: context.abort(code, details)


def sleep(request, context):
    time.sleep(0.6)
    return GOOD["Step"]


def step(**fields):
    return messages.StepResponse(**({"observation": VECTOR, "info": INFO} | fields))


ERRORS = {
    "refused": (
        abort(grpc.StatusCode.INVALID_ARGUMENT, "action[2]: 1.5\nis out of range"),
        RefusedError,
        r"step: refused: action\[2\]: 1.5 is out of range",
    ),
    "unavailable": (abort(grpc.StatusCode.UNAVAILABLE, "away"), UnreachableError, "UNAVAILABLE: away"),
    "internal": (abort(grpc.StatusCode.INTERNAL, "oh no"), BadResponseError, "INTERNAL: oh no"),
    "not there": (abort(grpc.StatusCode.UNIMPLEMENTED, ""), BadResponseError, "UNIMPLEMENTED"),
    "late": (sleep, ServerTimeoutError, r"step: no response in 0\.3 s"),
    "64 numbers": (step(observation=[0] * 64), BadResponseError, "64 numbers"),
    "NaN": (step(observation=[float("nan")] * 65), BadResponseError, r"observation\[0\] is nan"),
    "reward infinite": (step(reward=float("inf")), BadResponseError, "reward is inf"),
    "image": (step(image_observation=b"123"), BadResponseError, "an image of 3 bytes came"),
    "no counts": (step(info={}), BadResponseError, "episode_steps is None"),
    "count not JSON": (step(info=INFO | {"episode_steps": "x"}), BadResponseError, "not JSON"),
    "count text": (step(info=INFO | {"episode_steps": '"7"'}), BadResponseError, "episode_steps is '7'"),
    "too large": (step(image_observation=b"1" * 5_000_000), BadResponseError, "RESOURCE_EXHAUSTED"),
}


@pytest.mark.parametrize(("answer", "error", "reason"), ERRORS.values(), ids=ERRORS)
def test_errors_have_a_type_and_a_line_and_the_next_call_is_answered(answer, error, reason):
    with grpc_server(Step=answer) as (servicer, url):
        client = connect(url, timeout=10)
        client.reset()
        client.timeout = 0.3 if error is ServerTimeoutError else 10
        with pytest.raises(error, match=reason) as caught:
            client.step(0)
        assert str(caught.value).startswith(url)
        assert "\n" not in str(caught.value)
        client.timeout = 10
        assert client.reset().episode_steps == 7
        client.close()
    assert [name for name, _ in servicer.requests].count("Step") == 1


def test_the_timeout_bounds_reset_with_its_question_for_the_space():
    def slowly(request, context):
        time.sleep(0.2)
        return GOOD["Reset"]

    def slowly_space(request, context):
        time.sleep(0.2)
        return GOOD["GetObservationSpace"]

    with grpc_server(Reset=slowly, GetObservationSpace=slowly_space) as (_, url):
        with pytest.raises(ServerTimeoutError):
            connect(url, timeout=0.3).reset()
        assert connect(url, timeout=3).reset().episode_steps == 7


def test_a_server_that_goes_is_unreachable_and_one_that_returns_is_found(tmp_path):
    path = tmp_path / "rl.sock"
    client = connect(f"unix://{path}", timeout=2.0)
    with pytest.raises(UnreachableError):
        client.reset()
    for _ in range(2):
        with grpc_server(path):
            assert client.reset().episode_steps == 7
        with pytest.raises(UnreachableError):
            client.reset()
    client.close()


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 1000])
def test_what_is_no_grpc_server_is_an_error_in_time(data):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: drip(listener.accept()[0], data, 0), daemon=True).start()
        start = time.monotonic()
        with pytest.raises((UnreachableError, ServerTimeoutError)):
            connect(f"grpc://127.0.0.1:{listener.getsockname()[1]}", timeout=0.5).reset()
        assert time.monotonic() - start < 3


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with grpc_server() as (_, url):
        assert connect(url).reset().episode_steps == 7


@pytest.mark.parametrize("fields", [{"level": "two"}, {"image_obs_width": -1}, {"level": 2**31}])
def test_values_that_no_message_holds_are_refused(fields):
    with pytest.raises(ConfigError, match=f"{next(iter(fields))}: invalid value .*"):
        connect("grpc://127.0.0.1:1").configure(**fields)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxdodge.bevy.grpc_client", None)
    with pytest.raises(ConfigError, match=r"grpc://a:1 needs gRPC .*: pip install 'jaxdodge\[grpc\]'"):
        connect("grpc://a:1")


def test_a_server_that_was_restarted_between_calls_is_not_taken_for_the_old_one(tmp_path):
    path = tmp_path / "rl.sock"
    with grpc_server(path) as (_, url):
        client = connect(url)
        client.reset()
    while _connected(client._channel):
        time.sleep(0.01)
    with grpc_server(path) as (servicer, _):
        with pytest.raises(UnreachableError, match=f"{url}: step: the server closed the connection"):
            client.step([0, 0, 0])
        assert not servicer.requests
        client.reset()
        assert [name for name, _ in servicer.requests] == ["Reset", "GetObservationSpace"]
        client.close()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_that_is_closed_before_it_connected_leaves_no_thread():
    before = threading.active_count()
    for _ in range(30):
        with pytest.raises((ServerTimeoutError, UnreachableError)):
            connect("grpc://127.0.0.1:1", timeout=1e-9).reset()
    assert threading.active_count() <= before
