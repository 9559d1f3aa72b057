"""Fleets that are closed, forgotten, or whose program ends, in any state: nothing is ever left."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import psutil
import pytest
from gymnasium.error import ClosedEnvironmentError
from small_fleets import GAME, SERVER, descendants, fleet_of

from jaxdodge.bevy.fleet import Fleet
from jaxdodge.bevy.launch import ServerProcess, Watchdog

# Checked after every test.
pytestmark = pytest.mark.usefixtures("nothing_is_left")


def stop(fleet: Fleet) -> None:
    for process in fleet.process_ids.values():
        os.kill(process, signal.SIGSTOP)


def kill(fleet: Fleet) -> None:
    for process in fleet.process_ids.values():
        os.kill(process, signal.SIGKILL)


def interrupted(fleet: Fleet) -> None:
    """Ctrl-C while a step waits for servers that are stopped."""
    stop(fleet)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        fleet.step(np.zeros((2, 3), np.float32))


def signal_watchdog(number: int) -> None:
    for process in psutil.Process().children():
        if any(part.endswith("watchdog.py") for part in process.cmdline()):
            process.send_signal(number)


STATES = {
    "playing": ("", lambda fleet: fleet.reset()),
    "never reset": ("", lambda fleet: None),
    "stopped": ("", lambda fleet: (fleet.reset(), stop(fleet))),
    "dead": ("", lambda fleet: (fleet.reset(), kill(fleet))),
    "ignoring SIGTERM": ("--stubborn", lambda fleet: fleet.reset()),
    "with a child that ignores SIGTERM": ("--child", lambda fleet: fleet.reset()),
    "child of a dead server": ("--child", lambda fleet: (fleet.reset(), kill(fleet))),
    "interrupted": ("", lambda fleet: (fleet.reset(), interrupted(fleet))),
    "being restarted": ("", lambda fleet: (fleet.reset(), kill(fleet), fleet.step(np.zeros((2, 3))))),
    "watchdog stopped": ("", lambda fleet: (fleet.reset(), signal_watchdog(signal.SIGSTOP))),
    "watchdog dead": ("", lambda fleet: (signal_watchdog(signal.SIGKILL), fleet.reset())),
}


COMMON = ("playing", "stopped", "dead", "ignoring SIGTERM", "being restarted")


@pytest.mark.parametrize(
    ("options", "reach"),
    [
        pytest.param(*state, id=name, marks=() if name in COMMON else pytest.mark.slow)
        for name, state in STATES.items()
    ],
)
def test_close_returns_and_leaves_nothing_in_any_state(options, reach):
    with fleet_of(2, options) as fleet:
        reach(fleet)
        fleet.close()
        assert fleet.process_ids == {}
        fleet.close()


def test_close_while_servers_hang_in_their_start():
    with fleet_of(2, "--never-listen") as fleet:
        starting = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        starting.start()
        with pytest.raises(KeyboardInterrupt):
            fleet.reset()
        assert fleet.process_ids == {}


def test_a_forgotten_fleet_is_closed():
    fleet = Fleet(GAME, server_command=SERVER, num_envs=2)
    fleet.reset()
    assert len(descendants()) >= 3
    del fleet


ENDINGS = {
    "end of the program": ("", 0),
    "exception": ("raise ValueError", 1),
    "Ctrl-C": ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
    "sys.exit": ("sys.exit(7)", 7),
    "SIGTERM": ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
    "SIGKILL": ("signal.raise_signal(signal.SIGKILL)", -signal.SIGKILL),
}


# Each starts a Python process that imports JAX.
OFTEN = ("SIGKILL",)


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        pytest.param(*ending, id=name, marks=[] if name in OFTEN else pytest.mark.slow)
        for name, ending in ENDINGS.items()
    ],
)
def test_a_program_that_ends_takes_its_servers_along(tmp_path, ending, status):
    program = textwrap.dedent(f"""
        import signal, sys, os, psutil
        from jaxdodge.bevy.fleet import Fleet
        from jaxdodge.config import GameConfig
        fleet = Fleet(GameConfig(action_space_type="basic_3d"), server_command={SERVER!r}, num_envs=2)
        fleet.reset()
        os.kill(fleet.process_ids[0], signal.SIGSTOP)
        print(*(process.pid for process in psutil.Process().children()), flush=True)
        {ending}
    """)
    environment = {**os.environ, "TMPDIR": f"{tmp_path}"}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment
    )
    assert ran.returncode == status, ran.stderr
    processes = [int(word) for word in ran.stdout.split()]
    assert len(processes) == 3

    def left() -> list:
        return [*filter(psutil.pid_exists, processes), *tmp_path.glob("jaxdodge-*")]

    # What is killed cannot wait for its servers.
    expires = time.monotonic() + (10 if status in (-signal.SIGTERM, -signal.SIGKILL) else 0)
    while left() and time.monotonic() < expires:
        time.sleep(0.05)
    assert not left()


def test_a_step_ends_when_another_thread_closes_the_fleet():
    with fleet_of(2) as fleet:
        fleet.reset()
        stop(fleet)
        threading.Timer(0.3, fleet.close).start()
        with pytest.raises(ClosedEnvironmentError, match="closed by another thread"):
            fleet.step(np.zeros((2, 3), np.float32))


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(shutil.which("setsid") is None, reason="no setsid")
def test_a_server_that_left_its_process_group_is_ended(tmp_path):
    watchdog = Watchdog(tmp_path / "folder")
    server = ServerProcess("setsid --fork sleep {port}000", None, tmp_path, tmp_path / "log", watchdog)
    try:
        url = server.start()
        port = url.rpartition(":")[2]
        while server.exited() is None:
            time.sleep(0.02)
        started = [
            process
            for process in psutil.process_iter(["cmdline"])
            if f"{port}000" in (process.info["cmdline"] or [])
        ]
        assert started
        server.stop()
        # Nobody here is its parent, so its death cannot be waited for.
        expires = time.monotonic() + 10
        while any(map(is_alive, started)):
            assert time.monotonic() < expires
            time.sleep(0.02)
    finally:
        server.kill()
        watchdog.end()
