"""Lockstep is the simulator's environment, bit for bit, over every transport."""

import asyncio
import base64
import functools

import grpc
import jax
import numpy as np
import pytest
import requests
from served import SECONDS, SEED

from jaxdodge.bevy import rl_env_pb2 as messages
from jaxdodge.bevy.rl_env_pb2_grpc import RlEnvironmentStub
from jaxdodge.config import GameConfig
from jaxdodge.server.game import NO_MOVE, Slots, move_of, vectors
from jaxdodge.server.lockstep import LockstepEnv
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.frame import frame
from jaxdodge.sim.state import server_start
from jaxdodge.sim.systems import Command, Inputs, spawn_position

# Throws that come often enough to kill within a second.
DENSE = {"level": 2, "spawn_angle_degrees": 30.0, "projectile_spawn_interval": 0.1}
SLOTS = 48
SIZE = {"image_obs_width": 48, "image_obs_height": 32}
THROWER = {"observation_mode": "with_thrower", "thrower_delay_seconds": 0.2}
IMAGE = {"observation_mode": "topdown", **SIZE}


class Http:
    """A client in the fewest lines."""

    def __init__(self, server):
        self.url, self.session = server.http, requests.Session()

    def ask(self, route, **body):
        answer = self.session.post(f"{self.url}/{route}", json=body, timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.content else None

    def configure(self, **fields):
        self.ask("configure", **fields)

    def reset(self):
        return self._read(self.ask("reset"))

    def step(self, action):
        return self._read(self.ask("step", action=action))

    def _read(self, answer):
        image = answer.get("image_observation")
        seen = np.array(answer["observation"], np.float32)
        if image is not None:
            seen = np.frombuffer(base64.b64decode(image, validate=True), np.uint8)
        reward, done = np.float32(answer.get("reward", 0)), answer.get("done", False)
        return seen, reward, done, answer.get("truncated", False), answer["info"]


class Grpc:
    """The same over gRPC."""

    def __init__(self, server, kind="grpc"):
        target = server.addresses(kind)[0].replace("grpc://", "").replace("unix://", "unix:")
        self.channel = grpc.insecure_channel(target, options=[("grpc.default_authority", "localhost")])
        self.stub = RlEnvironmentStub(self.channel)

    def configure(self, **fields):
        self.stub.Configure(messages.ConfigureRequest(**fields), timeout=SECONDS)

    def reset(self):
        return self._read(self.stub.Reset(messages.ResetRequest(), timeout=SECONDS), 0.0, False, False)

    def step(self, action):
        request = (
            messages.StepRequest(discrete_action=action)
            if isinstance(action, int)
            else (messages.StepRequest(continuous_action=messages.ContinuousAction(values=action)))
        )
        answer = self.stub.Step(request, timeout=SECONDS)
        return self._read(answer, answer.reward, answer.done, answer.truncated)

    def _read(self, answer, reward, done, truncated):
        seen = np.array(answer.observation, np.float32)
        if answer.image_observation:
            seen = np.frombuffer(answer.image_observation, np.uint8)
        info = {name: int(value) for name, value in answer.info.items()}
        return seen, np.float32(reward), done, truncated, info


class InProcess:
    """An arena without a transport."""

    def __init__(self, timing):
        self.arena = LockstepEnv(0, GameConfig(**timing), SEED)

    def configure(self, **fields):
        asyncio.run(self.arena.configure(fields))

    def reset(self):
        seen = asyncio.run(self.arena.reset("http"))[1]
        return seen.observation, np.float32(0), False, False, seen.info

    def step(self, action):
        move = move_of(np.array(action, np.float32), self.arena.config.action_space_type)
        seen = asyncio.run(self.arena.step(move, "http"))[1]
        return seen.observation, seen.reward, seen.done, seen.truncated, seen.info


CLIENTS = {"http": Http, "grpc": Grpc, "unix": lambda server: Grpc(server, "unix")}


@functools.lru_cache
def environment(config: GameConfig):
    """An environment and its compiled reset and step."""
    env = DodgeEnv(config, thrower_slots=16)
    functions = env.restart, env.step_env
    return env, *(jax.jit(each) for each in functions)


@jax.jit
def command_frame(key, params):
    """The frame of a configure on a fresh server's state: it selects
    a level, which replaces all.
    """
    throw = spawn_position(draw_uniform(key, 1)[0], params)
    command = Command(reset=True, restart_timer=True, params=params)
    inputs = Inputs(params.frame_nanoseconds, params.frame_seconds, throw, (command,))
    return frame(server_start(SLOTS, 16), params, inputs, with_thrower=True)


class Direct:
    """What a session must give: `DodgeEnv` itself. `requests` have come to the server before it."""

    def __init__(self, requests: int, timing: dict):
        self.config = GameConfig(**timing, observe_previous_action=False)
        self.requests = requests

    def configure(self, **fields):
        self.config = self.config.configure(**fields)
        assert self.config.projectile_slots == SLOTS
        self.env, self._restart, self._step = environment(self.config)
        game = command_frame(self._key(), self.env.default_params)
        self.state = self.env.start().replace(game=game)

    def reset(self):
        observation, self.state = self._restart(self._key(), self.state)
        return self._answer(observation, 0, False)

    def step(self, action):
        params = self.env.default_params
        action = np.asarray(action, np.int32 if isinstance(action, int) else np.float32)
        observation, self.state, reward, done, _ = self._step(self._key(), self.state, action, params)
        return self._answer(observation, reward, done, bool(self.env.is_truncated(self.state, params)))

    def _key(self):
        self.requests += 1
        return jax.random.fold_in(jax.random.key(SEED), self.requests)

    def _answer(self, observation, reward, done, truncated=False):
        counts = self.env.counts(self.state)
        info = {name: int(counts[name]) for name in ("episode_steps", "projectile_count")}
        return np.asarray(observation).reshape(-1), np.float32(reward), bool(done), truncated, info


def settle(client) -> None:
    """Let indicators of an earlier game fire."""
    client.configure(level=1, action_space_type="discrete", observation_mode="standard")
    for _ in range(35):
        client.step(0)


def play(client, fields: dict, steps: int) -> list:
    """Configure, then play with random actions and a reset after every end."""
    client.configure(**fields)
    answers = [client.reset()]
    generator = np.random.default_rng(1)
    size = {"discrete": 0, "basic_3d": 3, "full_6d": 6}[fields["action_space_type"]]
    for _ in range(steps):
        drawn = generator.uniform(-1, 1, size).astype(np.float32).tolist()
        answers.append(client.step(drawn if size else int(generator.integers(5))))
        if answers[-1][2]:
            answers.append(client.reset())
    return answers


def assert_equal(ours: list, theirs: list) -> None:
    for number, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_array_equal(mine[0].view(np.uint8), its[0].view(np.uint8), err_msg=f"{number}")
        assert mine[1].tobytes() == its[1].tobytes(), number
        assert mine[2:] == its[2:], number


GAMES = {
    "vector": {**DENSE, "action_space_type": "basic_3d"},
    "discrete": {**DENSE, "action_space_type": "discrete"},
    "with_thrower": {**DENSE, **THROWER, "action_space_type": "full_6d"},
    "image": {**DENSE, **IMAGE, "action_space_type": "basic_3d"},
}


@pytest.mark.parametrize("game", GAMES)
def test_a_session_is_the_environment(lockstep, game):
    """Throws, deaths, resets and images, over each transport."""
    for client in CLIENTS.values():
        connected = client(lockstep)
        settle(connected)
        before = lockstep.requests()
        answers = play(connected, GAMES[game], 90)
        assert_equal(answers, play(Direct(before, {}), GAMES[game], 90))
        assert game == "with_thrower" or any(answer[2] for answer in answers)
        assert any(answer[4]["projectile_count"] > 2 for answer in answers)


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "response"), [(2, 1), (4, 2), (7, 0)])
def test_the_timing_is_the_environments(frames, response):
    timing = {"frames_per_step": frames, "response_frame": response}
    answers = play(InProcess(timing), GAMES["vector"], 60)
    assert_equal(answers, play(Direct(0, timing), GAMES["vector"], 60))
    assert any(answer[2] for answer in answers)


def test_indicators_of_an_earlier_mode_become_projectiles(lockstep):
    client = Http(lockstep)
    settle(client)
    client.configure(
        observation_mode="with_thrower", projectile_spawn_interval=0.1, thrower_delay_seconds=0.5
    )
    while not client.step(0)[0][65:].any():
        pass
    client.configure(observation_mode="topdown", projectile_spawn_interval=60.0, **SIZE)
    counts = [client.step(0)[4]["projectile_count"] for _ in range(40)]
    assert counts == sorted(counts)
    assert 20 < counts.index(1) <= 30


def test_a_table_that_fills_up_is_enlarged_in_time():
    """A throw every frame, more than the slots were sized for."""
    arena = LockstepEnv(0, GameConfig(), SEED)
    arena.start()
    arena.config = arena.config.configure(level=2, projectile_spawn_interval=1e-6)
    arena._configured(restart_timer=True)
    assert arena._slots.projectiles == 64
    answers = [asyncio.run(arena.step(NO_MOVE, "http"))[1] for _ in range(100)]
    # The first throw is due in the frame of the configure, and appears in the next.
    assert [answer.info["projectile_count"] for answer in answers] == list(range(1, 101))
    assert arena._slots.projectiles == 256
    assert answers[-1].fields[1]["dropped"] == 0


def test_enlarging_changes_no_bit():
    """What is new is as in an empty table."""
    small, large = vectors(Slots(64, 8)), vectors(Slots(256, 32))
    generator = np.random.default_rng(1)
    carry = generator.integers(-(2**31), 2**31, small.carry.size, dtype=np.int32)
    before = small.carry.unpack_numpy(carry)
    after = large.carry.unpack_numpy(large.enlarged(small.carry.pack_numpy(before), small))
    empty = large.carry.unpack_numpy(large.start(GameConfig()))
    for old, new, start in zip(*map(jax.tree.leaves, (before, after, empty)), strict=True):
        assert old.tobytes() == new[tuple(slice(size) for size in old.shape)].tobytes()
        if old.ndim:
            beyond = (..., slice(old.shape[-1], None))
            np.testing.assert_array_equal(new[beyond], start[beyond])
