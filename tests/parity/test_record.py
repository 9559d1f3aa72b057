"""`parity record` against real servers in processes of their own: what
is written, and what ends it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from served import running

from jaxdodge.bevy import play
from jaxdodge.cli import Interrupt
from jaxdodge.recordings.session import RESET, STEP, read_session

DENSE = ("--level", 2, "--spawn-angle-degrees", 10, "--projectile-spawn-interval", 0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def server(folder):
    """A real-time server with all transports, its URLs by kind, and what it logged."""
    socket = folder / "rl.sock"
    log = folder / "log.jsonl"
    flags = ("--http", "--port", 0, "--grpc-port", 0, "--socket-path", socket, "--seed", 1)
    with running(folder, *flags, "--log", log) as process:
        process.log = log
        process.urls = {
            "http": process.addresses("http")[0],
            "grpc": process.addresses("grpc")[0],
            "unix": f"unix://{socket}",
        }
        yield process


@pytest.fixture
def record(parity):
    """The command in this process, which keeps its signals."""
    handlers = {number: signal.getsignal(number) for number in Interrupt.SIGNALS}
    yield lambda *arguments: parity("record", *arguments)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def answered(path) -> list[dict]:
    """What a server says that it answered, the latest last."""
    # A last line can be half written.
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


CASES = {
    "http, random": ("http", 40, (*DENSE, "--action-space-type", "full_6d")),
    "grpc, discrete strafe": ("grpc", 60, ("--policy", "strafe", "--action-space-type", "discrete")),
    "grpc, the name that servers refuse": ("grpc", 9, ("--action-space-type", "basic_4d_jump")),
    "unix, indicators": (
        "unix",
        60,
        (*DENSE, "--policy", "circle", "--observation-mode", "with_thrower", "--player-speed", 2.5),
    ),
    "unix, images": (
        "unix",
        30,
        (
            "--policy",
            "still",
            "--observation-mode",
            "topdown",
            "--image-obs-width",
            40,
            "--image-obs-height",
            32,
        ),
    ),
}


@pytest.mark.parametrize(("kind", "steps", "options"), CASES.values(), ids=CASES)
def test_a_session_is_what_the_server_answered(kind, steps, options, server, record, tmp_path):
    out = tmp_path / "session.npz"
    status, lines, errors = record(
        "--server", server.urls[kind], "--out", out, "--steps", steps, "--seed", 5, *options
    )
    assert (errors, status) == ([], 0)
    assert lines[0].startswith(f"{out}: {steps} steps in ")
    session = read_session(out)
    arrays = session.arrays
    assert (arrays["kind"] == STEP).sum() == steps
    assert arrays["kind"][0] == RESET
    over = arrays["done"] | arrays["truncated"]
    np.testing.assert_array_equal(arrays["kind"][1:] == RESET, over[:-1])
    given = dict(zip(options[::2], options[1::2], strict=True))
    for option, value in given.items():
        if option != "--policy":
            assert getattr(session.config, option[2:].replace("-", "_")) == value
    assert session.config.fps == 60
    assert session.meta["transport"] == ("http" if kind == "http" else "grpc")
    assert session.meta["policy"] == given.get("--policy", "random")
    assert session.meta["stopped"] is None
    rows = answered(server.log)[-len(session) :]
    for index, row in enumerate(rows):
        assert row["kind"] == ("step" if arrays["kind"][index] == STEP else "reset")
        assert row["episode_steps"] == arrays["episode_steps"][index]
        assert row["projectile_count"] == arrays["projectile_count"][index]
        if row["kind"] == "step":
            np.testing.assert_array_equal(np.array(row["action"], np.float32), arrays["action"][index])
            assert (row["done"], row["truncated"]) == (arrays["done"][index], arrays["truncated"][index])
            assert np.float32(row["reward"]) == arrays["reward"][index]
        if "image" not in arrays:
            observation = np.array(row["observation"], np.float32)
            np.testing.assert_array_equal(observation, arrays["observation"][index])


def test_a_pace_and_a_time_can_be_given(server, record, tmp_path):
    out = tmp_path / "session.npz"
    status, _, _ = record(
        "--server", server.urls["grpc"], "--out", out, "--seconds", 1, "--think-seconds", 0.05
    )
    assert status == 0
    session = read_session(out)
    assert session.meta["think_seconds"] == 0.05
    gaps = session.arrays["sent_s"][2:] - session.arrays["received_s"][1:-1]
    assert (gaps[session.arrays["kind"][2:] == STEP] >= 0.05).all()
    assert session.arrays["received_s"][-1] > 0.9


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_ends_with_a_whole_file(number, status, server, tmp_path):
    out = tmp_path / "session.npz"
    before = len(answered(server.log))
    command = [
        sys.executable,
        "-m",
        "jaxdodge.parity",
        "record",
        "--server",
        server.urls["unix"],
        "--out",
        out,
    ]
    process = subprocess.Popen([*map(str, command), "--steps", "1000000"], stderr=subprocess.PIPE, text=True)
    try:
        _wait_until(lambda: len(answered(server.log)) >= before + 30, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert (process.returncode, errors.splitlines()) == (
        status,
        [f"{name}: saving and stopping", f"stopped: {name}"],
    )
    session = read_session(out)
    assert session.meta["stopped"] == name
    assert len(session) >= 20
    assert os.listdir(tmp_path) == ["session.npz"]


def _wait_until(holds, process=None, seconds: float = 60) -> None:
    expires = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < expires
        assert process is None or process.poll() is None
        time.sleep(0.02)


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_a_whole_file(folder, record, tmp_path):
    out, log = tmp_path / "session.npz", tmp_path / "log.jsonl"
    with running(folder, "--grpc-port", 0, "--log", log) as server:
        url = server.addresses("grpc")[0]

        def kill():
            _wait_until(lambda: log.exists() and len(answered(log)) >= 40)
            server.process.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        status, lines, errors = record("--server", url, "--out", out)
        killer.join()
    assert status == 1
    assert len(errors) == 1
    assert errors[0].startswith(f"stopped: {url}: ")
    session = read_session(out)
    assert lines[0].startswith(f"{out}: ")
    assert f"stopped: {session.meta['stopped']}" == errors[0]
    rows = answered(log)
    # The very last answer may not have arrived; the reset before is that of the configuration.
    assert len(rows) - 2 <= len(session) <= len(rows) - 1


def test_without_an_answer_nothing_is_written(record, tmp_path, monkeypatch):
    monkeypatch.setattr(play, "START_SECONDS", 0.0)
    out = tmp_path / "session.npz"
    out.write_bytes(b"as it was")
    status, lines, errors = record("--server", "http://127.0.0.1:1", "--out", out)
    assert (status, lines) == (1, [])
    assert errors == [
        "stopped: http://127.0.0.1:1: configure: Connection refused",
        f"{out}: not written, nothing was recorded",
    ]
    assert out.read_bytes() == b"as it was"


BAD_INPUT = {
    "url": (("--server", "localhost:8000"), "server: invalid value 'localhost:8000'; expected http://"),
    "policy": (
        ("--policy", "jump"),
        "policy: invalid value 'jump'; expected random, still, strafe, circle",
    ),
    "strafe": (
        ("--policy", "strafe", "--observation-mode", "topdown"),
        "observation_mode: invalid value 'topdown' for strafe",
    ),
    "level": (("--level", "3"), "level: invalid value 3; expected a whole number"),
    "no field of a server": (("--frames-per-step", "3"), "--frames-per-step: no such option"),
    "steps": (("--steps", "0"), "steps: invalid value 0"),
    "seconds": (("--seconds", "0"), "seconds: invalid value 0.0"),
    "thinking": (("--think-seconds", "-1"), "think_seconds: invalid value -1.0"),
    "timeout": (("--timeout", "0"), "timeout: invalid value 0.0"),
    "folder": (("--out", "/nowhere/session.npz"), "/nowhere/session.npz: cannot be written"),
    "not a file": (("--out", "/dev/null"), "/dev/null: cannot be written (not a regular file)"),
    "not a run": (("--policy", "/"), "/: not a run folder"),
}


@pytest.mark.parametrize(("options", "reason"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_refused_in_one_line(options, reason, record, tmp_path):
    good = {"--server": "http://127.0.0.1:1", "--out": tmp_path / "session.npz"}
    merged = good | dict(zip(options[::2], options[1::2], strict=True))
    status, lines, errors = record(*(part for pair in merged.items() for part in pair))
    assert (status, lines) == (2, [])
    assert len(errors) == 1
    assert reason in errors[0]
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_help_is_instant():
    """Without JAX."""
    code = "import sys; sys.argv = ['x', 'record', '--help']; from jaxdodge.parity.__main__ import main\n"
    code += "try: main()\nexcept SystemExit: print('jax' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--spawn-angle-degrees" in output
    assert output.splitlines()[-1] == "False"
