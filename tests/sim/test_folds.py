"""Both folds of a frame give the same bits: `frame`, which environments run, and `ordered_frame`,
which recordings are checked with."""

import random
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compilation import users_jit
from played_envs import assert_same, inputs_of

from jaxdodge.config import GameConfig
from jaxdodge.sim.actions import action_shape, movement
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.frame import frame, ordered_frame, reset_where
from jaxdodge.sim.order import SIMULATOR, as_indices, draw_order
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.publish import publish
from jaxdodge.sim.state import State, Vector, server_start
from jaxdodge.sim.systems import Command, Inputs, spawn_position

SLOTS, INDICATORS = 9, 4
STATES, FRAMES = 2048, 3
NOTHING = as_indices(["apply_tilt"])


class Draw:
    """Random arrays (STATES, ...) from one seed."""

    def __init__(self, seed: int, states: int):
        self._generator, self._states = np.random.default_rng(seed), states

    def flags(self, probability: float, *shape: int) -> np.ndarray:
        return self._generator.random((self._states, *shape)) < probability

    def whole(self, low: int, high: int, *shape: int) -> np.ndarray:
        """From low to high."""
        return self._generator.integers(low, high + 1, (self._states, *shape), np.int32)

    def real(self, low: float, high: float, *shape: int) -> np.ndarray:
        return self._generator.uniform(low, high, (self._states, *shape)).astype(np.float32)

    def vector(self, *ranges: tuple[float, float], shape: tuple[int, ...] = ()) -> Vector:
        return Vector(*(self.real(low, high, *shape) for low, high in ranges))

    def time_below(self, seconds: float, *shape: int) -> Duration:
        return Duration(
            np.zeros((self._states, *shape), np.int32), self.whole(0, round(seconds * 1e9) - 1, *shape)
        )


def random_states(seed: int, states: int, with_thrower: bool, cleared: bool) -> State:
    """States as of a publication: full and empty tables, throws and
    removals pending, games over.
    """
    draw = Draw(seed, states)
    slots, indicators = (SLOTS,), (INDICATORS,)
    start = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * states), server_start(SLOTS, INDICATORS))
    # Near the player, at the ground, beyond the limits of the world.
    near = draw.vector((-6, 6), (-5, 5), (0, 3), shape=slots)
    far = draw.vector((-31, 31), (-26, 31), (-6, 3), shape=slots)
    apart = draw.flags(0.3, *slots)
    # In every fourth state the table is full.
    count = np.where(draw.flags(0.25), np.int32(SLOTS), draw.whole(0, SLOTS))
    in_use = np.arange(SLOTS) < count[:, None]
    state = start.replace(
        player=start.player.replace(
            position=draw.vector((-5, 5), (-4, 4), (1, 1)).replace(
                z=np.where(draw.flags(0.5), np.float32(1), draw.real(1, 2.2))
            ),
            velocity=draw.vector((-15, 15), (-15, 15), (-7, 7)),
            on_ground=draw.flags(0.5),
        ),
        projectiles=start.projectiles.replace(
            position=jax.tree.map(lambda a, b: np.where(apart, a, b), far, near),
            velocity=draw.vector((-20, 20), (-30, 10), (-9, 9), shape=slots),
            count=count,
            outside=draw.flags(0.25, *slots) & in_use,
        ),
        spawned_projectile=start.spawned_projectile.replace(
            position=draw.vector((-20, 20), (-20, 20), (1, 3)),
            velocity=draw.vector((-20, 20), (-30, 10), (-9, 9)),
            due=draw.flags(0.5),
        ),
        spawn_timer=draw.time_below(0.02),
        collision=draw.flags(0.2),
        cleared=draw.flags(0.3 * cleared),
        game_over=draw.flags(0.3),
        episode_steps=draw.whole(990, 1001),
    )
    if not with_thrower:
        return state
    pending = np.where(draw.flags(0.25), np.int32(INDICATORS), draw.whole(0, INDICATORS))
    return state.replace(
        throwers=state.throwers.replace(
            position=draw.vector((-20, 20), (-20, 20), (1, 3), shape=indicators),
            velocity=draw.vector((-20, 20), (-30, 10), (-9, 9), shape=indicators),
            elapsed=draw.time_below(0.07, *indicators),
            duration=Duration(np.zeros((states, INDICATORS), np.int32), draw.whole(1, 10**8, *indicators)),
            fired=draw.flags(0.4, *indicators) & (np.arange(INDICATORS) < pending[:, None]),
            count=pending,
        ),
        spawned_thrower=state.spawned_thrower.replace(
            position=draw.vector((-20, 20), (-20, 20), (1, 3)),
            velocity=draw.vector((-20, 20), (-30, 10), (-9, 9)),
            due=draw.flags(0.5),
            delay=draw.time_below(0.1),
        ),
    )


def random_params(seed: int, states: int, mode: str) -> GameParams:
    """Of both levels, with throws in every frame or in every second."""
    draw = Draw(seed, states)
    base = game_params(GameConfig(observation_mode=mode, thrower_delay_seconds=0.04))
    params = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * states), base)
    return params.replace(
        spawn_interval=Duration(np.zeros(states, np.int32), draw.whole(20_000_000, 34_000_000)),
        random_spawn_position=draw.flags(0.5),
        player_speed=draw.real(1, 9),
        spawn_angle=draw.real(0.1, 3.1),
    )


def half_frames(order: tuple[str, ...]) -> np.ndarray:
    """The order after its publication, and up to it; both as long as a
    frame, filled with no systems.
    """
    at = order.index("publish_state") + 1
    return np.array([as_indices(order[at:]) + NOTHING * at, as_indices(order[:at]) + NOTHING * (13 - at)])


def random_inputs(seed: int, params: GameParams, space: str, kinds: tuple[str, ...]) -> Inputs:
    """Of FRAMES frames, (FRAMES, states, ...); `kinds`: what each
    command is, where it is not off.
    """
    states = len(params.player_speed)
    draw = Draw(seed, FRAMES * states)
    moves = users_jit(jax.vmap(lambda action: movement(action, space)))

    def reshaped(array):
        return array.reshape(FRAMES, states, *array.shape[1:])

    def command(kind: str) -> Command:
        action = draw.real(-1, 1, *action_shape(space)) if action_shape(space) else draw.whole(0, 4)
        on, off = draw.flags(0.5), draw.flags(0)
        return Command(moves(action), on if kind == "step" else off, on if kind == "reset" else off, off)

    commands = jax.tree.map(reshaped, tuple(command(kind) for kind in (*kinds, *["none"] * 3)[:3]))
    throw = users_jit(jax.vmap(jax.vmap(spawn_position), in_axes=(0, None)))(
        reshaped(draw.real(0, 1)), params
    )
    times = (np.stack([time] * FRAMES) for time in (params.frame_nanoseconds, params.frame_seconds))
    return Inputs(*times, throw, tuple(commands))


def by_frame(state: State, params: GameParams, inputs: Inputs, with_thrower: bool, kinds, order=SIMULATOR):
    """State and publication after every frame, by the fold of the environments."""

    def one(state: State, inputs: Inputs):
        # What a command cannot be is static, as it is in an environment.
        commands = zip(inputs.commands, kinds, strict=False)
        used = [
            command.replace(reset=False, restart_timer=False)
            if kind == "step"
            else command.replace(move=None, step=False, restart_timer=False)
            for command, kind in commands
        ]
        state = frame(state, params, inputs.replace(commands=tuple(used)), with_thrower, order)
        return state, (state, publish(state, params))

    return jax.lax.scan(one, state, inputs)[1]


STATIC = ("with_thrower", "kinds", "order")
BY_FRAME = {jit: jit(by_frame, static_argnames=STATIC) for jit in (jax.jit, users_jit)}
many_by_frame = partial(jax.vmap, in_axes=(0, 0, 1), out_axes=1)


def both_compilers(*cases: tuple, as_users: tuple[int, ...] = ()) -> list:
    """The cases, with the compiler of the environments' fold: as for users in the slow tier.

    The numbers in `as_users` are compiled as for users in the normal tier too, and not fast.
    """
    params = []
    for number, case in enumerate(cases):
        fast = number not in as_users
        marks = [pytest.mark.slow] if fast else []
        params += [pytest.param(jax.jit, *case)] if fast else []
        params.append(pytest.param(users_jit, *case, marks=marks))
    return params


@users_jit
def by_data(state: State, params: GameParams, inputs: Inputs, halves, schedule):
    """The same by the fold of the recordings, whose order is data: half a
    frame, then the other half.
    """
    nothing = jnp.full(len(schedule), NOTHING[0])

    def half(carry, now):
        order, schedule, inputs = now
        carry = ordered_frame(carry, order, schedule, inputs)
        return carry, (carry[0], carry[2])

    twice = jax.tree.map(lambda array: jnp.repeat(array, 2, axis=0), inputs)
    orders, schedules = jnp.tile(halves, (FRAMES, 1)), jnp.tile(jnp.stack([schedule, nothing]), (FRAMES, 1))
    published = jax.tree.map(jnp.zeros_like, publish(state, params))
    results = jax.lax.scan(half, (state, params, published), (orders, schedules, twice))[1]
    return jax.tree.map(lambda array: array[1::2], results)


def both(jit: Callable, state: State, params: GameParams, inputs: Inputs, mode: str, kinds, order=SIMULATOR):
    """What both folds give, each (FRAMES, states, ...)."""
    compiled, with_thrower = BY_FRAME[jit], mode == "with_thrower"
    static = many_by_frame(lambda *args: compiled(*args, with_thrower, kinds, order))(state, params, inputs)
    data = jax.vmap(by_data, in_axes=(0, 0, 1, None, None), out_axes=1)(
        state, params, inputs, half_frames(order), np.array(as_indices(order))
    )
    return static, data


# Every mode, every action space, no command, one, several; resets among them.
CASES = [
    ("standard", "discrete", ("step",)),
    ("with_thrower", "full_6d", ("step", "reset", "step")),
    ("topdown", "basic_4d_jump", ("reset", "step")),
    ("with_thrower", "tilt_5d", ("step",)),
    ("standard", "basic_3d", ()),
]


@pytest.mark.parametrize(("jit", "mode", "space", "kinds"), both_compilers(*CASES, as_users=(1,)))
def test_the_simulators_frame_is_the_fold_of_the_recordings(jit, mode, space, kinds):
    """Over 5 times 2048 random states, three frames each: every leaf of the
    state, and the publication.
    """
    states = random_states(1, STATES, mode == "with_thrower", cleared=False)
    params = random_params(2, STATES, mode)
    static, data = both(jit, states, params, random_inputs(3, params, space, kinds), mode, kinds)
    assert_same(static, data)
    state = jax.tree.map(lambda array: array[-1], static[0])
    # What the states are to show did happen.
    assert (state.dropped_projectiles > 0).any()
    assert (state.projectiles.count == 0).any() or "reset" not in kinds
    assert (state.projectiles.count == SLOTS).any()
    assert state.game_over.any()
    assert not state.game_over.all()
    assert (state.dropped_throwers > 0).any() == (mode == "with_thrower")
    assert state.projectiles.outside.any()


# A reset is pending at the publication, a collision is, neither.
@pytest.mark.parametrize(("jit", "seed"), both_compilers((0,), (5,), (11,)))
def test_a_frame_of_any_order_is_the_fold_of_the_recordings(jit, seed):
    order, kinds = draw_order(random.Random(seed)), ("step", "reset")
    clears = order.index("handle_commands") < order.index("publish_state")
    params = random_params(seed + 10, STATES, "with_thrower")
    states = random_states(seed, STATES, True, clears)
    inputs = random_inputs(seed + 20, params, "full_6d", kinds)
    (static, published), data = both(jit, states, params, inputs, "with_thrower", kinds, order)
    assert_same((static, published), data)
    assert static.cleared.any() == clears
    late = order.index("detect_collisions") < order.index("publish_state") < order.index("handle_collisions")
    assert static.collision.any() >= late


@pytest.mark.parametrize(("jit", "mode"), both_compilers(("standard",), ("with_thrower",), as_users=(1,)))
def test_reset_where_is_the_frame_that_begins_with_a_reset(jit, mode):
    """Bit for bit in the slots in use, but for throws into a full
    table, which the game would keep.
    """
    with_thrower = mode == "with_thrower"
    states = random_states(5, STATES, with_thrower, cleared=False)
    params = random_params(6, STATES, mode)
    condition = Draw(7, STATES).flags(0.5)

    def both(condition, state, params, draw):
        inputs = inputs_of(draw, params, Command(reset=True))
        whole = frame(state, params, inputs, with_thrower)
        return whole, reset_where(condition, state, params, inputs, with_thrower)

    whole, selected = jit(jax.vmap(both))(condition, states, params, Draw(8, STATES).real(0, 1))
    full = (states.projectiles.count == SLOTS) & states.spawned_projectile.due & ~jnp.bool_(with_thrower)
    assert_same(in_use(selected, condition & ~full), in_use(whole, condition & ~full))
    assert_same(in_use(selected, ~condition), in_use(states, ~condition))
    assert_same(in_use(selected, condition & full).player, in_use(whole, condition & full).player)
    if not with_thrower:
        assert (condition & full).any()
        assert (selected.projectiles.count == states.spawned_projectile.due)[condition].all()
        assert (selected.dropped_projectiles == 0).all()


def in_use(state: State, rows: jax.Array) -> State:
    """These rows of a batch, with zeros in the slots of projectiles that are not in use."""
    table = state.projectiles
    unused = jnp.arange(SLOTS) >= table.count[:, None]
    hidden = {
        name: jax.tree.map(lambda array: jnp.where(unused, 0, array), getattr(table, name))
        for name in ("position", "velocity", "outside")
    }
    state = state.replace(projectiles=table.replace(**hidden))
    return jax.tree.map(lambda array: np.asarray(array)[np.asarray(rows)], state)
