"""Fleets that start their servers: what is restarted, and what stops the run."""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections import deque

import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from players import Player
from small_fleets import GAME, SERVER, TIMEOUT, fleet_of

from jaxdodge.bevy import play
from jaxdodge.bevy.fleet import Fleet, FleetError
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError

# Checked after every test.
pytestmark = pytest.mark.usefixtures("nothing_is_left")
FAULTS = {signal.SIGKILL: "exited", signal.SIGSTOP: "timeout", signal.SIGTERM: "exited"}


@pytest.mark.parametrize("number", FAULTS)
def test_a_server_that_dies_or_stops_is_restarted_and_the_others_go_on(tmp_path, number):
    log = tmp_path / "log.jsonl"
    with fleet_of(3, f"--log {log}") as fleet:
        player = Player(fleet)
        for _ in range(25):
            player.step()
        first = fleet.process_ids
        os.kill(first[1], number)
        player.until("dropped", 1)
        assert fleet.process_ids.get(2) == first[2]
        assert player.info["dropped"].tolist() == [False, True, False]
        assert player.until("restarted", 1) > 1
        assert player.info["episode_steps"][1] == 0
        player.until("valid", 1)
        for _ in range(25):
            player.step()
            assert player.info["_episode_steps"].all()
        assert [first[number] == fleet.process_ids[number] for number in range(3)] == [True, False, True]
        counters = fleet.counters
        assert (counters["restarts"], counters[f"faults_{FAULTS[number]}"]) == (1, 1)
        assert counters["dropped_transitions"] == 1
        assert f"1 transition dropped, 1 restart ({FAULTS[number]} 1)" in fleet.summary()
        failed, back = fleet.notices
        assert re.fullmatch(r"server 1: http://127\.0\.0\.1:\d+: .*; restarting it", failed)
        assert re.fullmatch(r"server 1: back after \d+\.\d s", back)
    answered = player.checked(log)
    assert len(player.stored) >= answered - 3 - counters["dropped_transitions"]


def test_a_server_whose_count_of_steps_stands_still_is_restarted(monkeypatch):
    monkeypatch.setattr(play, "STILL_STEPS", 4)
    with fleet_of(1, "--stuck 3") as fleet:
        player = Player(fleet)
        player.until("dropped", 0)
        assert (fleet.counters["faults_bad_response"], fleet.counters["restarts"]) == (1, 1)
        player.until("restarted", 0)


@pytest.mark.slow
def test_all_servers_away_is_waited_for():
    with fleet_of(2) as fleet:
        player = Player(fleet)
        player.step()
        for process in fleet.process_ids.values():
            os.kill(process, signal.SIGKILL)
        player.step()
        assert player.info["dropped"].all()
        player.step()
        assert player.info["restarted"].any()
        while not player.info["valid"].all():
            player.step()


@pytest.mark.slow
def test_reset_waits_for_those_that_are_restarted():
    with fleet_of(2) as fleet:
        player = Player(fleet)
        assert not player.info["restarted"].any()
        player.step()
        os.kill(fleet.process_ids[0], signal.SIGKILL)
        player.until("dropped", 0)
        _, info = fleet.reset()
        assert info["restarted"].tolist() == [True, False]
        assert info["_episode_steps"].all()
        os.kill(fleet.process_ids[1], signal.SIGKILL)
        _, info = fleet.reset()
        assert info["restarted"].tolist() == [False, True]


@contextlib.contextmanager
def small_server(port: int):
    command = [part.replace("{port}", str(port)) for part in shlex.split(SERVER)]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_server_that_somebody_else_restarts_is_configured_again():
    """Which the small server needs before it answers anything else."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.closing(Fleet(GAME, urls=[f"http://127.0.0.1:{port}"], timeout=TIMEOUT)) as fleet:
        with small_server(port):
            player = Player(fleet)
            player.step()
        with small_server(port):
            player.step()
            assert player.info["dropped"][0]
            player.step()
            assert player.info["restarted"][0]
            player.step()
            assert player.info["valid"][0]
            assert (fleet.counters["faults_unreachable"], fleet.process_ids) == (1, {})
            assert re.match(rf"server 0: http://127\.0\.0\.1:{port}: .*; reconnecting$", fleet.notices[0])


STOPS = {
    "exits": ("--exit-after 3", {}, "max_restarts of 2 within 600 s.*status 3.*out of patience"),
    "does not start": ("--fail-to-start", {}, "max_restarts of 2 within 600 s.*status 1.*no display found"),
    "never listens": ("--never-listen", {"start_timeout": 0.5}, "max_restarts.*given up after 0.5 s"),
    "never answers": (
        "--never-answer",
        {"start_timeout": 0.5, "timeout": 0.3},
        "max_.*given up after 0.5 s",
    ),
    "refuses the game": ("--refuse", {"max_restarts": 50}, "cannot play this game.*level: invalid value 2"),
    "no restart allowed": ("--exit-after 3", {"max_restarts": 0}, "max_restarts of 0.*out of patience"),
}


OFTEN = ("exits", "never answers", "refuses the game")


@pytest.mark.parametrize(
    ("options", "arguments", "reason"),
    [
        pytest.param(*stop, id=name, marks=() if name in OFTEN else pytest.mark.slow)
        for name, stop in STOPS.items()
    ],
)
def test_a_used_up_budget_stops_the_run_with_the_reason(options, arguments, reason):
    with fleet_of(2, options, **{"max_restarts": 2, **arguments}) as fleet:
        with pytest.raises(FleetError, match=rf"server [01].*{reason}"):
            Player(fleet).until("_never", 0)
        assert fleet.process_ids == {}
        # Each of the two servers fails three times.
        causes = [name for name in fleet.counters if name.startswith("faults_")]
        assert len([line for line in fleet.notices if "back after" not in line]) <= 2 * len(causes)
        with pytest.raises(ClosedEnvironmentError):
            fleet.reset()


def test_a_command_that_is_not_there():
    with (
        pytest.raises(FleetError, match="no-such-server: cannot be started"),
        contextlib.closing(
            Fleet(GAME, server_command="no-such-server {port}", num_envs=1, max_restarts=1)
        ) as fleet,
    ):
        fleet.reset()


@pytest.mark.slow
def test_restarts_outside_of_the_window_do_not_count():
    with fleet_of(1, "--exit-after 3", max_restarts=1, restart_window=1e-3) as fleet:
        player = Player(fleet)
        for _ in range(3):
            player.until("restarted", 0)


REFUSED = {
    "neither": ({}, "urls, server_command: missing; expected one of them"),
    "both": ({"urls": ["http://a:1"], "server_command": SERVER}, "urls: invalid value .*"),
    "one URL": ({"urls": "http://127.0.0.1:1"}, "urls: invalid value .*; expected a list"),
    "no URL": ({"urls": []}, "urls: invalid value .*"),
    "the same server twice": ({"urls": ["http://127.0.0.1:1"] * 2}, "urls: .* different URLs"),
    "not a URL": ({"urls": ["ftp://127.0.0.1:1"]}, "urls: invalid value 'ftp://127.0.0.1:1'"),
    "another number": (
        {"urls": ["http://127.0.0.1:1"], "num_envs": 2},
        "num_envs: invalid value 2; expected 1",
    ),
    "no number": ({"server_command": SERVER}, "num_envs: invalid value None"),
    "no placeholder": ({"server_command": "server --port 8000", "num_envs": 1}, "expected a command with"),
    "open quote": ({"server_command": "server 'a {port}", "num_envs": 1}, "No closing quotation"),
    "server URL": (
        {"server_command": SERVER, "num_envs": 1, "server_url": "x"},
        "server_url: invalid value 'x'",
    ),
    "timeout": ({"urls": ["http://127.0.0.1:1"], "timeout": 0}, "timeout: invalid value 0"),
    "budget": ({"urls": ["http://127.0.0.1:1"], "max_restarts": -1}, "max_restarts: invalid value -1"),
    "log folder": (
        {"server_command": SERVER, "num_envs": 1, "log_folder": "/dev/null/x"},
        "log_folder: invalid value /dev/null/x; Not a directory",
    ),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_arguments(arguments, reason):
    with pytest.raises(ConfigError, match=reason) as refusal:
        Fleet(GAME, **arguments)
    assert "\n" not in str(refusal.value)


def test_episodes_longer_than_the_servers_are_refused():
    with pytest.raises(ConfigError, match="max_episode_steps: invalid value 1001"):
        Fleet(GameConfig(max_episode_steps=1001), urls=["http://127.0.0.1:1"])


def test_refused_actions_and_options_send_nothing_and_close_nothing():
    with fleet_of(2) as fleet:
        with pytest.raises(ResetNeeded):
            fleet.step(np.zeros((2, 3), np.float32))
        player = Player(fleet)
        for actions in (np.zeros((2, 4)), np.full((2, 3), 1.5), np.full((2, 3), np.nan), "left"):
            with pytest.raises(ValueError, match="action"):
                fleet.step(actions)
        with pytest.raises(ValueError, match="options"):
            fleet.reset(options={"reset_mask": np.ones(2, bool)})
        player.step()
        assert player.info["valid"].all()


@pytest.mark.slow
def test_output_is_kept_in_the_log_folder(tmp_path):
    with fleet_of(2, "--exit-after 1", log_folder=tmp_path / "logs") as fleet:
        Player(fleet).until("restarted", 0)
    lines = (tmp_path / "logs" / "server_0.log").read_text().splitlines()
    assert "out of patience" in lines


def test_an_episode_is_cut_at_the_games_own_limit():
    game = GameConfig(action_space_type="basic_3d", max_episode_steps=4)
    with contextlib.closing(Fleet(game, server_command=SERVER, num_envs=1)) as fleet:
        player = Player(fleet)
        ends = deque(bool(player.step()[3][0]) for _ in range(10))
    assert [*ends] == [False, False, False, True, False] * 2


def test_servers_start_at_the_same_time_on_different_ports():
    begun = time.monotonic()
    with fleet_of(8) as fleet:
        Player(fleet).step()
        assert len(set(fleet.process_ids.values())) == 8
    assert time.monotonic() - begun < 60
