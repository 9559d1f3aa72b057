"""Fleets of servers that run already: what is played, and what happens when answers go wrong."""

import contextlib
import hashlib
import os
import signal
import sys
import warnings

import numpy as np
import pytest
from fault_proxy import FaultProxy
from gymnasium.utils.passive_env_checker import check_obs
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from players import Player
from served import running
from server_log import read_log

from jaxdodge.bevy.fleet import Fleet
from jaxdodge.config import GameConfig
from jaxdodge.sim.gym import DodgeVectorEnv

# Throws come often enough to end episodes within a second.
DENSE = {"level": 2, "spawn_angle_degrees": 30.0, "projectile_spawn_interval": 0.1}
GAME = GameConfig(action_space_type="basic_3d", **DENSE)
TIMEOUT = 3.0


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Two games on HTTP and on Unix sockets, and their log."""
    folder = tmp_path_factory.mktemp("served")
    flags = ("--mode", "lockstep", "--http", "--port", 0, "--socket-path", folder / "game.sock")
    with running(folder, *flags, "--arenas", 2, "--seed", 1, "--log", folder / "log.jsonl") as server:
        server.log = folder / "log.jsonl"
        yield server


@pytest.fixture(scope="module")
def proxy(served):
    """In front of the first game."""
    proxy = FaultProxy(int(served.http.rsplit(":", 1)[1]), seconds=TIMEOUT + 0.5)
    yield proxy
    proxy.close()


def fleet_on(urls, game=GAME, **arguments):
    return contextlib.closing(Fleet(game, urls=urls, **{"timeout": TIMEOUT, **arguments}))


@pytest.mark.parametrize("kind", ["http", "unix"])
def test_every_transition_is_one_of_the_servers(served, kind):
    with fleet_on(served.addresses(kind)) as fleet:
        player = Player(fleet)
        for _ in range(150):
            player.step()
        counters = fleet.counters
    assert player.checked(served.log) >= 2 * 150 - 20
    assert any(transition.terminated for transition in player.stored)
    assert {server for server, *_ in player.stored} == {0, 1}
    assert (counters["requests"], counters["restarts"], counters["dropped_transitions"]) == (300, 0, 0)


def test_gymnasiums_contract(served):
    with fleet_on(served.addresses("http")) as fleet:
        simulated = DodgeVectorEnv(2, action_space_type="basic_3d", **DENSE)
        for name in ("observation_space", "single_observation_space", "action_space", "single_action_space"):
            assert getattr(fleet, name) == getattr(simulated, name)
        assert fleet.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
        environment = RecordEpisodeStatistics(fleet)
        observations, info = environment.reset(seed=3)
        environment.action_space.seed(1_000_000)  # no other player's
        total, ended, episodes = np.zeros(2), np.zeros(2, bool), 0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(120):
                check_obs(observations, fleet.observation_space, "step")
                row = environment.step(environment.action_space.sample())
                observations, rewards, terminations, truncations, info = row
                assert rewards.dtype == np.float64
                assert (rewards.shape, terminations.dtype, truncations.dtype) == ((2,), bool, bool)
                assert {key for key in info if key[0] != "_"} >= {"valid", "dropped", "restarted"}
                np.testing.assert_array_equal(info["valid"], ~ended)
                total = np.where(ended, 0, total) + rewards
                ended = terminations | truncations
                if ended.any():
                    episodes += ended.sum()
                    np.testing.assert_allclose(info["episode"]["r"][ended], total[ended])
    assert episodes > 2


# Each spoils one answer to a step of the first server, and is seen as this.
FAULTS = {
    "reset": "unreachable",
    "close": "unreachable",
    "cut": "unreachable",
    "silence": "timeout",
    "delay": "timeout",
    "drip": "timeout",
    "garbage": "bad_response",
    "garbage_body": "bad_response",
    "no_server": "bad_response",
    "refusal": "refused",
    "wrong_shape": "bad_response",
    "not_a_number": "bad_response",
    "out_of_space": "bad_response",
    "no_flag": "bad_response",
    "another_episode": "restarted",
    "ahead": "restarted",
}


@pytest.fixture(scope="module")
def player(served, proxy):
    """Of a fleet whose first server is behind the proxy; in the end
    everything that it stored is checked.
    """
    with fleet_on([proxy.url, served.addresses("http")[1]], max_restarts=2 * len(FAULTS)) as fleet:
        player = Player(fleet)
        yield player
        for _ in range(20):
            player.step()
    assert len(player.stored) > 3 * len(FAULTS)
    player.checked(served.log)


@pytest.mark.parametrize(("fault", "cause"), FAULTS.items(), ids=FAULTS)
def test_a_spoiled_answer_is_dropped_and_its_server_asked_anew(player, proxy, fault, cause):
    while not (player.info["valid"][0] and player.info["episode_steps"][0] >= 2) or player.ended[0]:
        player.step()
    before = player.fleet.counters
    proxy.arm(fault)
    player.step()
    assert player.info["dropped"].tolist() == [True, False]
    assert player.info["_episode_steps"].tolist() == [False, True]
    last = [transition for transition in player.stored if transition.server == 0][-1]
    assert last.truncated
    assert not last.terminated
    player.until("restarted", 0)
    player.step()
    assert player.info["valid"][0]
    after = player.fleet.counters
    changed = {name: after[name] - before.get(name, 0) for name in after if name.startswith(("f", "r", "d"))}
    del changed["requests"]
    assert {name: count for name, count in changed.items() if count} == {
        f"faults_{cause}": 1,
        "restarts": 1,
        "dropped_transitions": 1,
    }


STACKED = {
    "vectors": {"frame_stack": 3, "observe_previous_action": True},
    "images": {
        "observation_mode": "topdown",
        "image_obs_width": 40,
        "image_obs_height": 32,
        "frame_stack": 2,
        "observe_previous_action": True,
    },
}


@pytest.mark.parametrize("fields", STACKED.values(), ids=STACKED)
def test_observations_are_stacked_as_in_the_simulator(served, fields):
    game = GameConfig(action_space_type="basic_3d", **DENSE, **fields)
    with fleet_on(served.addresses("http")[:1], game) as fleet:
        player = Player(fleet)
        asked = len(read_log(served.log))
        rows = [(player.observations, np.zeros(3, np.float32), 0)]
        for _ in range(12):
            steps = rows[-1][2] + 1
            player.step()
            rows.append((player.observations, player.actions[0], steps))
            if player.ended[0]:
                break
    answers = read_log(served.log)[asked - 1 :]
    assert len(answers) == len(rows)
    for index, (observation, action, _) in enumerate(rows):
        past = range(index - game.frame_stack + 1, index + 1)
        if "observation_mode" in fields:
            np.testing.assert_array_equal(observation["previous_action"][0], action)
            images = np.split(observation["image"][0], game.frame_stack, axis=-1)
            for entry, image in zip(past, images, strict=True):
                logged = answers[entry]["observation"] if entry >= 0 else None
                if logged is None:
                    assert not image.any()
                else:
                    assert hashlib.sha256(image.tobytes()).hexdigest() == logged
            continue
        entries = [
            np.frombuffer(answers[entry]["observation"], np.float32) if entry >= 0 else np.zeros(65)
            for entry in past
        ]
        np.testing.assert_array_equal(observation[0], np.concatenate([*entries, action]).astype(np.float32))


@pytest.mark.slow
def test_a_started_grpc_server_is_restarted_and_leaves_no_socket(served, tmp_path):
    log = tmp_path / "log.jsonl"
    command = f"{sys.executable} -m jaxdodge.serve --mode lockstep --socket-path {{socket}} --log {log}"
    with contextlib.closing(Fleet(GAME, server_command=command, num_envs=1)) as fleet:
        player = Player(fleet)
        for _ in range(30):
            player.step()
        os.kill(fleet.process_ids[0], signal.SIGKILL)
        player.until("dropped", 0)
        assert player.until("restarted", 0) == 1
        for _ in range(30):
            player.step()
        assert fleet.counters["faults_exited"] == 1
    player.checked(log)
    assert len({line["process"] for line in read_log(log)}) == 2
