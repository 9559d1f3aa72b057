"""Realtime: what a response shows, orders of a frame, its time steps.
Frames are run without a clock.
"""

import asyncio
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.server import realtime
from jaxdodge.server.game import move_of
from jaxdodge.server.realtime import RealtimeEnv
from jaxdodge.sim.actions import movement
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.frame import ordered_frame
from jaxdodge.sim.order import ALWAYS, SIMULATOR, SYSTEMS, as_indices, checked_order, draw_order
from jaxdodge.sim.params import frame_seconds, game_params
from jaxdodge.sim.publish import publish
from jaxdodge.sim.state import server_start
from jaxdodge.sim.systems import Command, Inputs

FRAME = 16_666_667
CONFIG = GameConfig()
FIRST_COMMANDS = ",".join(("handle_commands", *(name for name in SIMULATOR if name != "handle_commands")))
RIGHT = np.array([1, 0, 0, 0, 0], np.float32)


class ByHand(RealtimeEnv):
    """An arena whose frames are run by the test, in a task of the same loop."""

    def __init__(self, order="simulator", config=CONFIG):
        super().__init__(0, config, 5, order, failed=lambda: None)

    def begin(self):
        self._loop = asyncio.get_running_loop()
        self._frame(0)

    def frame(self, nanoseconds=FRAME):
        self._frame(nanoseconds)
        return self._published


def velocity(publication) -> float:
    return float(publication.observation[3])


async def pause():
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("order", "shown"), [("simulator", [0, 10]), (FIRST_COMMANDS, [10, 10])])
def test_a_grpc_step_is_answered_by_the_first_publication_after_it(order, shown):
    """Whether that one shows the action is a matter of the order."""

    async def play():
        arena = ByHand(order)
        arena.begin()
        seen = []
        for _ in shown:
            before = arena.frames
            answer = asyncio.ensure_future(arena.step(move_of(RIGHT, "tilt_5d"), "grpc"))
            await pause()
            assert not answer.done()
            arena.frame()
            _, publication = await answer
            assert publication.frame == before + 1
            seen.append(velocity(publication))
        return seen

    # tilt_5d without a sprint component of -1: half of the sprint's 2 is added to 1.
    assert asyncio.run(play()) == shown


def test_a_grpc_step_does_not_wait_forever():
    async def play():
        arena = ByHand()
        arena.begin()
        _, publication = await arena.step(move_of(RIGHT, "tilt_5d"), "grpc")
        assert publication.frame == arena.frames
        assert arena._waiting == []

    asyncio.run(play())


@pytest.mark.parametrize(
    ("transport", "kind", "wait"),
    [("http", "step", 0.016), ("http", "reset", 0.1), ("grpc", "reset", 0.02)],
)
def test_other_answers_are_what_is_current_after_a_while(monkeypatch, transport, kind, wait):
    """The wait is the original's; three frames pass in it, and the last of them is answered."""
    waited = []

    async def play():
        arena = ByHand()
        arena.begin()

        async def sleep(seconds):
            waited.append(seconds)
            for _ in range(3):
                arena.frame()

        monkeypatch.setattr(realtime.asyncio, "sleep", sleep)
        if kind == "step":
            _, publication = await arena.step(move_of(RIGHT, "tilt_5d"), transport)
            assert velocity(publication) == 10
        else:
            _, publication = await arena.reset(transport)
        assert publication.frame == arena.frames == 4

    asyncio.run(play())
    assert waited == [wait]


def test_commands_of_a_frame_are_handled_in_order_and_late_ones_wait():
    async def play():
        arena = ByHand()
        arena.begin()
        most = realtime.COMMANDS_PER_FRAME
        for number in range(most + 1):
            move = np.array([number / most, 0, -1, -1])
            arena._enqueue(realtime.command(arena.config, move=move), reset=False)
        arena.frame()
        full = arena.frame()
        late = arena.frame()
        assert (velocity(full), full.info["episode_steps"]) == (5.0 * (most - 1) / most, most)
        assert (velocity(late), late.info["episode_steps"]) == (5.0, most + 1)

    asyncio.run(play())


@pytest.mark.parametrize(("order", "at_once"), [("simulator", False), (FIRST_COMMANDS, True)])
def test_an_image_has_the_size_that_held_when_it_was_published(order, at_once):
    async def play():
        arena = ByHand(order)
        arena.begin()
        fields = {"observation_mode": "topdown", "image_obs_width": 32, "image_grayscale": True}
        await arena.configure({**fields, "image_obs_height": 48})
        one, two = arena.frame(), arena.frame()
        assert one.image is None or at_once
        assert len(one.observation) == (0 if at_once else 65)
        assert len(two.image) == 32 * 48
        await arena.configure({"image_obs_width": 40})
        one, two = arena.frame(), arena.frame()
        assert len(one.image) == (40 if at_once else 32) * 48
        assert len(two.image) == 40 * 48

    asyncio.run(play())


@jax.jit
def direct_frame(carry, order, schedule, inputs, number):
    draw = draw_uniform(jax.random.fold_in(jax.random.key(5), number), 1)[0]
    return ordered_frame(carry, order, schedule, inputs, draw)


@pytest.mark.parametrize(
    ("order", "interval"), [("start", 0.11), pytest.param("frame", 0.05, marks=pytest.mark.slow)]
)
def test_frames_are_the_replays_in_any_order_and_time_step(order, interval):
    """Against `ordered_frame` itself, which the recordings prove;
    without queue, packing and slots.
    """
    fields = {"level": 2, "projectile_spawn_interval": interval, "spawn_angle_degrees": 10.0}
    fields["observation_mode"] = "with_thrower"
    config = CONFIG.configure(**fields)
    orders, generator = realtime.Orders(order, 5), random.Random(1)

    async def play():
        arena = ByHand(order)
        start = server_start(256, 32), game_params(CONFIG)
        carry = *start, jax.jit(publish)(*start)
        arena._loop = asyncio.get_running_loop()
        held = CONFIG
        for number in range(120):
            reset, move = number in (60, 90), None
            if number == 2:
                await arena.configure(fields)
                held = config
            elif reset:
                arena._enqueue(realtime.command(held, reset=True), reset=True)
            else:
                action = np.array([generator.uniform(-0.1, 0.1) for _ in range(5)], np.float32)
                move = movement(action, "tilt_5d")
                arena._enqueue(realtime.command(held, move=move_of(action, "tilt_5d")), reset=False)
            nanoseconds = 0 if number == 0 else generator.choice([FRAME, 1, 4_166_667, 250_000_000])
            command = Command(
                move=move if move is not None else movement(RIGHT, "tilt_5d"),
                step=jnp.asarray(move is not None),
                reset=jnp.asarray(reset or number == 2),
                restart_timer=jnp.asarray(number == 2),
                params=game_params(held),
            )
            inputs = Inputs(jnp.int32(nanoseconds), jnp.float32(frame_seconds(nanoseconds)), None, (command,))
            systems = jnp.asarray(orders.next()), jnp.asarray(orders.schedule)
            carry = direct_frame(carry, *systems, inputs, number)
            ours, published = arena.frame(nanoseconds), carry[2]
            np.testing.assert_array_equal(
                ours.fields[0]["published_observation"], published["published_observation"]
            )
            assert ours.reward.tobytes() == np.asarray(published["published_reward"]).tobytes()
            assert ours.done == bool(published["published_done"])
            assert ours.info["projectile_count"] == int(published["published_projectile_count"])
        return arena

    arena = asyncio.run(play())
    assert arena.frames == 120
    assert arena.episodes == 3
    assert arena.collisions > 0


@given(st.randoms(use_true_random=False))
def test_drawn_orders_obey_what_was_always_so(generator):
    order = draw_order(generator)
    assert sorted(order) == sorted(SYSTEMS)
    for earlier, later in ALWAYS:
        assert order.index(earlier) < order.index(later)


def test_orders_that_were_measured_both_ways_are_drawn_both_ways():
    drawn = [draw_order(random.Random(seed)) for seed in range(50)]
    for one, other in [("handle_commands", "publish_state"), ("detect_collisions", "handle_collisions")]:
        assert {order.index(one) < order.index(other) for order in drawn} == {True, False}
    orders = realtime.Orders("frame", 3)
    assert len({tuple(orders.next()) for _ in range(20)}) > 10
    fixed = realtime.Orders("start", 3)
    assert {tuple(fixed.next()) for _ in range(20)} == {tuple(fixed.schedule)}


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (SIMULATOR[1:], "order: move_projectiles missing"),
        ((*SIMULATOR, "publish_state"), "order: publish_state named twice"),
        ((*SIMULATOR, "fly"), "order: fly unknown"),
    ],
)
def test_orders_that_are_none_are_refused(order, reason):
    with pytest.raises(ConfigError, match=reason):
        checked_order(order)
    assert as_indices(checked_order(SIMULATOR[:-2])) == as_indices(SIMULATOR)
