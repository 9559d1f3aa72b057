"""The command: flags, addresses, signals, arenas, log, metrics."""

import base64
import hashlib
import json
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
import requests
from served import SECONDS

from jaxdodge.cli import guarded
from jaxdodge.serve import serve as serve_command


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--port", 8001), "port: invalid value 8001 without --http"),
        (
            ("--http", "--port", 70_000),
            "port: invalid value 70000; expected a whole number, 0",
        ),
        (
            ("--http", "--port", 65_535, "--arenas", 2),
            "port: invalid value 65535; the last of 2 is above 65535",
        ),
        (("--arenas", 0), "arenas: invalid value 0"),
        (("--fps", 3), "fps: invalid value 3.0"),
        (("--seed", -1), "seed: invalid value -1"),
        (("--mode", "lockstep", "--order", "start"), "order: invalid value 'start' in lockstep"),
        (("--frames-per-step", 2), "frames_per_step and response_frame: no effect in realtime"),
        (("--mode", "lockstep", "--response-frame", 2), "response_frame: invalid value 2"),
        (("--order", "publish_state,publish_state"), "order: publish_state named twice"),
        (("--order", "random"), "order: random unknown"),
        (("--mode", "fast"), "mode: invalid value 'fast'; expected realtime, lockstep"),
        (("--port", "x"), "port: invalid value 'x'; expected a whole number"),
        (("--nosuch", 1), "--nosuch: no such option"),
    ],
)
def test_a_mistake_is_one_line(capsys, flags, reason):
    """Before anything is imported or started, so that this process can run the command."""
    try:
        status = guarded(serve_command, [str(flag) for flag in flags])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert (status, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert captured.err.startswith(reason)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--socket-path", "/no/such/folder/game.sock"), "no such folder: /no/such/folder"),
        (("--socket-path", "/tmp/" + "x" * 120), "longer than 107 bytes"),
        (
            ("--http", "--port", 0, "--host", "no.such.host.invalid"),
            "host: invalid value no.such.host.invalid",
        ),
        (("--http", "--port", 0, "--log", "/no/such/folder/log"), "/no/such/folder/log: No such file"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(refused, flags, reason):
    assert reason in refused(*flags)


@pytest.mark.parametrize(
    ("option", "flags"), [("port", ("--http",)), ("grpc_port", ()), ("metrics_port", ())]
)
def test_a_port_that_is_taken_is_refused(refused, option, flags):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(*flags, f"--{option.replace('_', '-')}", port)
    assert line == f"{option}: invalid value {port} on 127.0.0.1; Address already in use\n"


def test_two_options_cannot_have_the_same_port(refused):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = refused("--http", "--port", port, "--metrics-port", port)
    assert line == f"metrics_port: invalid value {port} on 127.0.0.1; Address already in use\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["port", "socket"])
def test_of_two_servers_started_at_once_only_one_listens(tmp_path, kind):
    """The other one ends at once, while the first one still compiles."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = {"port": ["--http", "--port", f"{port}"], "socket": ["--socket-path", f"{tmp_path}/game.sock"]}
    command = [sys.executable, "-m", "jaxdodge.serve", "--mode", "lockstep", *flags[kind]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    servers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    try:
        expires = time.monotonic() + SECONDS
        while all(server.poll() is None for server in servers):
            assert time.monotonic() < expires
            time.sleep(0.02)
        refused, winner = sorted(servers, key=lambda server: server.poll() is None)
        assert refused.returncode == 2
        reason = {"port": "Address already in use", "socket": "a server listens there"}[kind]
        assert refused.stderr.read().endswith(f"; {reason}\n")
        assert winner.stdout.readline().startswith("lockstep")
        assert winner.stdout.readline().startswith("arena 0: ")
        winner.terminate()
        assert winner.wait(SECONDS) == 143
    finally:
        for server in servers:
            server.kill()
            server.communicate()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 0.5, 1, 2])
def test_a_signal_while_it_compiles_ends_it_at_once(tmp_path, seconds, monkeypatch):
    """Nothing is cached, so it compiles for seconds."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", f"{tmp_path / 'cache'}")
    path = tmp_path / "game.sock"
    command = [sys.executable, "-m", "jaxdodge.serve", "--socket-path", f"{path}", "--http", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as server:
        # Printed before compiling.
        assert server.stdout.readline().startswith("realtime at 60 fps")
        time.sleep(seconds)
        server.terminate()
        assert server.wait(SECONDS) == 143
        rest = server.stdout.read(), server.stderr.read()
    assert rest == ("", "")
    assert [each for each in tmp_path.iterdir() if each.name != "cache"] == []


@pytest.mark.slow
def test_a_socket_that_replaced_its_own_is_left_alone(serve, tmp_path):
    path = tmp_path / "game.sock"
    server = serve("--socket-path", path, "--mode", "lockstep")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as another:
        another.bind(str(path))
        assert server.end() == 143
    assert list(tmp_path.iterdir()) == [path]


def test_a_socket_path_that_is_taken_is_refused(refused, tmp_path):
    path = tmp_path / "game.sock"
    path.write_text("mine")
    assert "it exists and is no socket" in refused("--socket-path", path)
    assert path.read_text() == "mine"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        assert "a server listens there" in refused("--socket-path", path)
        assert path.exists()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_ends_it_and_removes_its_sockets(serve, tmp_path, number, status):
    path = tmp_path / "game_0.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:  # by a server that was killed
        left_behind.bind(str(path))
    # As the original's parallel client expects them.
    pattern = tmp_path / "game_{arena}.sock"
    server = serve("--socket-path", pattern, "--http", "--port", 0, "--arenas", 2, "--mode", "lockstep")
    expected = [str(path), f"{tmp_path / 'game_1.sock'}"]
    assert [url.removeprefix("unix://") for url in server.addresses("unix")] == expected
    assert stat.S_ISSOCK(path.stat().st_mode)
    host, port = server.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as idle:
        idle.sendall(b"POST /step HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
        assert server.end(number) == status
    assert server.errors == ""
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def log(folder):
    """The rows of their log so far."""
    return lambda: [json.loads(line) for line in (folder / "arenas.log").read_text().splitlines()]


def ask(url, route, body=None):
    answer = requests.post(f"{url}/{route}", json=body, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    return answer.json() if answer.content else None


def test_arenas_are_games_of_their_own(arenas):
    one, other = arenas.addresses("http")
    assert len(set(arenas.addresses("http") + arenas.addresses("grpc"))) == 4
    ask(one, "configure", {"level": 1, "action_space_type": "discrete"})
    ask(one, "reset")
    ask(other, "reset")
    while ask(one, "step", {"action": 4})["observation"][0] == 0:
        pass
    still = ask(other, "step", {"action": [0, 0, 0, 0, 0]})
    assert still["observation"][:2] == [0, 0]
    assert still["info"]["episode_steps"] <= 1


def test_the_log_is_what_was_answered(arenas, log):
    url = arenas.http
    ask(url, "configure", {"level": 2, "action_space_type": "3d"})
    before = len(log())
    answers = [ask(url, "reset"), *(ask(url, "step", {"action": [x, 0, 1]}) for x in (0.1, -0.25))]
    image = {"observation_mode": "topdown", "image_obs_width": 32, "image_obs_height": 32}
    ask(url, "configure", image)
    ask(url, "reset")
    answers.append(ask(url, "step", {"action": [0, 0, 1]}))
    rows = log()[before:]
    assert [row["kind"] for row in rows] == ["reset", "step", "step", "reset", "step"]
    assert [row["action"] for row in rows[:3]] == [None, pytest.approx([0.1, 0, 1]), [-0.25, 0, 1]]
    numbers = [row["request"] for row in rows]
    assert numbers == [numbers[0] + offset for offset in (0, 1, 2, 4, 5)]  # one was the configure's
    del rows[3]
    for row, answer in zip(rows, answers, strict=True):
        assert row["arena"] == 0
        assert row["process"] == arenas.process.pid
        assert {name: row[name] for name in answer["info"]} == answer["info"]
        if row["kind"] == "step":
            flags = ("reward", "done", "truncated")
            assert [row[name] for name in flags] == [answer[name] for name in flags]
    for row, answer in zip(rows[:3], answers, strict=False):
        assert row["observation"] == answer["observation"]
    raw = base64.b64decode(answers[3]["image_observation"])
    assert rows[3]["observation"] == hashlib.sha256(raw).hexdigest()
    frames = [row["frame"] for row in rows]
    assert frames == sorted(frames)


def test_health_and_metrics(arenas):
    one = arenas.http
    watch = next(line for line in arenas.lines if line.startswith("metrics: ")).split()[-1]
    ask(one, "reset")
    requests.post(f"{one}/step", data=b"{", timeout=SECONDS)
    requests.post(f"{one}/nowhere", timeout=SECONDS)
    health = requests.get(f"{one}/health", timeout=SECONDS).json()
    assert (health["status"], health["mode"]) == ("ok", "realtime")
    both = requests.get(watch.replace("/metrics", "/health"), timeout=SECONDS).json()
    assert both["frames"] > health["frames"] > 0
    for url in (watch, f"{one}/metrics"):
        text = requests.get(url, timeout=SECONDS).text
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        ok = 'jaxdodge_requests_total{arena="0",outcome="%s",route="%s"}'
        for key in (("ok", "reset"), ("refused", "step"), ("failed", "other")):
            assert float(values[ok % key]) >= 1
        assert float(values['jaxdodge_request_seconds_count{route="reset"}']) >= 1
        for name in ("frames", "late_frames", "episodes", "collisions"):
            for arena in (0, 1):
                assert float(values[f'jaxdodge_{name}_total{{arena="{arena}"}}']) >= (name == "frames")
