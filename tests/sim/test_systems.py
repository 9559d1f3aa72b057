"""Each system of the game against cases computed by hand, in float32 with
one rounding per operation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compilation import users_jit

from jaxdodge.config import GameConfig
from jaxdodge.sim import systems
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.params import frame_seconds, game_params
from jaxdodge.sim.state import State, Vector, server_start
from jaxdodge.sim.systems import Inputs

f32 = np.float32
FRAME = 16_666_667
DT = f32(FRAME) / f32(1e9)
SLOTS, INDICATORS = 12, 4


PARAMS = game_params(GameConfig())


def server() -> State:
    return server_start(SLOTS, INDICATORS)


def run(name: str, state: State, nanoseconds: int = FRAME, spawn=(0.0, 20.0), params=PARAMS) -> State:
    inputs = Inputs(jnp.int32(nanoseconds), jnp.float32(frame_seconds(nanoseconds)), tuple(map(f32, spawn)))
    return RUN[name](state, params, inputs)


RUN = {
    name: users_jit(getattr(systems, name))
    for name in (
        "apply_gravity",
        "apply_velocity",
        "move_projectiles",
        "cleanup_projectiles",
        "detect_collisions",
        "handle_collisions",
        "spawn_projectiles",
        "spawn_thrower_indicators",
        "process_thrower_indicators",
    )
}


def vector(*components) -> Vector:
    return Vector(*map(jnp.float32, components))


def player_at(state: State, position=(0, 0, 1), velocity=(0, 0, 0), on_ground=True) -> State:
    player = state.player.replace(
        position=vector(*position), velocity=vector(*velocity), on_ground=jnp.asarray(on_ground)
    )
    return state.replace(player=player)


def with_projectiles(state: State, *projectiles) -> State:
    """Each projectile is a position, or a position and a velocity."""
    table = np.full((6, SLOTS), np.nan, f32)
    for slot, numbers in enumerate(projectiles):
        table[:, slot] = [*numbers, *[0] * (6 - len(numbers))]
    return state.replace(
        projectiles=state.projectiles.replace(
            position=Vector(*map(jnp.asarray, table[:3])),
            velocity=Vector(*map(jnp.asarray, table[3:])),
            count=jnp.int32(len(projectiles)),
        )
    )


def numbers(vector: Vector, slot=()) -> list[float]:
    return [float(component[slot]) for component in (vector.x, vector.y, vector.z)]


def nanoseconds(duration: Duration) -> int:
    return int(duration.seconds) * 10**9 + int(duration.nanoseconds)


def assert_only_changed(before: State, after: State, *parts: str) -> None:
    for part in before.__dataclass_fields__:
        if part not in parts:
            jax.tree.map(np.testing.assert_array_equal, getattr(before, part), getattr(after, part))


# apply_gravity, apply_velocity


@pytest.mark.parametrize(
    ("height", "speed", "dt", "after"),
    [
        (1.0, 0.0, FRAME, (1.0, 0.0, True)),
        (1.0, 7.0, FRAME, None),
        # A fused product and sum would round otherwise: the height, the speed.
        (1.7, 6.7, FRAME, None),
        (3.3, 0.3, FRAME, None),
        (1.5, -7.0, 100_000_000, (1.0, 0.0, True)),
        (1.0, 0.0, 0, (1.0, 0.0, True)),
        (2.0, 3.0, 0, (2.0, 3.0, False)),
        # Reaching the start height exactly is landing: 1.25 - 0.25 s * (20 * 0.25 - 4) m/s.
        (1.25, 4.0, 250_000_000, (1.0, 0.0, True)),
        (
            np.nextafter(f32(1.25), f32(2)),
            4.0,
            250_000_000,
            (np.nextafter(f32(1.25), f32(2)) - f32(0.25), -1.0, False),
        ),
    ],
)
def test_gravity_lands_the_player_at_the_start_height(height, speed, dt, after):
    seconds = f32(dt) / f32(1e9)
    speed = f32(speed)
    if after is None:
        later = speed - f32(20) * seconds
        after = (f32(height) + later * seconds, later, False)
    # Whether the player stood on the ground before does not matter.
    for on_ground in (True, False):
        state = player_at(server(), (1, 2, height), (3, -4, speed), on_ground)
        player = run("apply_gravity", state, dt).player
        assert (player.position.z, player.velocity.z, bool(player.on_ground)) == after
        assert numbers(player.position)[:2] + numbers(player.velocity)[:2] == [1, 2, 3, -4]


@pytest.mark.parametrize(
    ("position", "velocity", "after"),
    [
        # A fused product and sum would round otherwise.
        ((0.2, -0.2), (-8.3, 7.7), (f32(0.2) + f32(-8.3) * DT, f32(-0.2) + f32(7.7) * DT)),
        ((4.9, 3.9), (15, 15), (5, 4)),
        ((-4.9, -3.9), (-15, -15), (-5, -4)),
        ((4.9, -3.9), (5, -5), (f32(4.9) + f32(5) * DT, f32(-3.9) + f32(-5) * DT)),
        ((5, -4), (0, 0), (5, -4)),
    ],
)
def test_the_player_moves_inside_the_walls(position, velocity, after):
    state = player_at(server(), (*position, 1.7), (*velocity, -3))
    moved = run("apply_velocity", state)
    assert numbers(moved.player.position) == [*map(float, map(f32, after)), float(f32(1.7))]
    assert numbers(moved.player.velocity) == numbers(state.player.velocity)
    assert bool(moved.player.on_ground)
    assert_only_changed(state, moved, "player")


# move_projectiles, cleanup_projectiles


def moved_by_hand(position, velocity, dt):
    (px, py, pz), (vx, vy, vz) = map(f32, position), map(f32, velocity)
    vz = vz - f32(9.8) * dt
    px, py, pz = px + vx * dt, py + vy * dt, pz + vz * dt
    if pz <= f32(0.3) and vz < 0:
        pz, vz, vx, vy = f32(0.3), -vz * f32(0.7), vx * f32(0.95), vy * f32(0.95)
    return [float(number) for number in (px, py, pz, vx, vy, vz)]


@pytest.mark.parametrize(
    ("position", "velocity", "bounces"),
    [
        # A fused product and sum would round otherwise: the position, the speed.
        ((-0.1, 1.7, 0.8), (5.5, -17.2, 3.0), False),
        ((0.1, 9.9, 1.5), (1.3, -5.1, 0.2), False),
        ((-3.1, 2.3, 0.31), (1.7, -5.3, -1.1), True),
        ((-3.1, 2.3, 0.3), (1.7, -5.3, 0.1), True),
        ((-3.1, 2.3, 0.1), (1.7, -5.3, 2.0), False),
        ((3.1, 2.3, -4.9), (1.7, -5.3, -2.0), True),
    ],
    ids=[
        "flies",
        "begins to fall",
        "falls to the ground",
        "starts to fall on it",
        "rises below it",
        "falls below it",
    ],
)
def test_projectiles_fly_and_bounce(position, velocity, bounces):
    state = with_projectiles(server(), (9, 9, 9, 1, 1, 1), (*position, *velocity))
    moved = run("move_projectiles", state)
    found = numbers(moved.projectiles.position, 1) + numbers(moved.projectiles.velocity, 1)
    assert found == moved_by_hand(position, velocity, DT)
    assert bool(found[2] == f32(0.3)) is bounces
    assert bool(found[3] == f32(velocity[0])) is not bounces
    other = numbers(moved.projectiles.position, 0) + numbers(moved.projectiles.velocity, 0)
    assert other == moved_by_hand((9, 9, 9), (1, 1, 1), DT)
    assert_only_changed(state, moved, "projectiles")


def test_a_projectile_that_touches_the_ground_without_falling_does_not_bounce():
    """A frame of 0 ns, in which nothing falls."""
    state = with_projectiles(server(), (1, 2, 0.3, 3, 4, 0), (1, 2, 0.3, 3, 4, -1))
    moved = run("move_projectiles", state, 0).projectiles
    assert numbers(moved.velocity, 0) == [3, 4, 0]
    assert numbers(moved.velocity, 1) == [
        float(f32(3) * f32(0.95)),
        float(f32(4) * f32(0.95)),
        float(f32(0.7)),
    ]


UP, DOWN = f32(np.inf), f32(-np.inf)


@pytest.mark.parametrize(
    ("axis", "limit", "outward"),
    [("x", 30, UP), ("x", -30, DOWN), ("y", 30, UP), ("y", -25, DOWN), ("z", -5, DOWN)],
)
def test_projectiles_leave_beyond_a_limit_not_at_it(axis, limit, outward):
    at, beyond = (
        [number if name == axis else 1.0 for name in "xyz"]
        for number in (limit, np.nextafter(f32(limit), outward))
    )
    state = with_projectiles(server(), at, beyond, at, beyond)
    state = state.replace(projectiles=state.projectiles.replace(count=jnp.int32(3)))
    asked = run("cleanup_projectiles", state)
    assert asked.projectiles.outside.tolist() == [False, True] + [False] * (SLOTS - 2)
    assert int(asked.projectiles.count) == 3, "removals are deferred"
    assert_only_changed(state, asked, "projectiles")


def test_there_is_no_limit_above():
    state = with_projectiles(server(), (1, 1, 1000))
    assert not run("cleanup_projectiles", state).projectiles.outside.any()


# detect_collisions, handle_collisions

TOUCH = f32(0.5) + f32(0.3)
CLOSER = np.nextafter(TOUCH, f32(0))


@pytest.mark.parametrize(
    ("offsets", "touches"),
    [
        ([(0, TOUCH, 0)], False),
        ([(0, CLOSER, 0)], True),
        ([(0, 0, -CLOSER)], True),
        ([(0, 0, -TOUCH)], False),
        ([(0.5, 0.5, 0.5)], False),
        ([(0.4, 0.4, 0.4)], True),
        ([(3, 3, 3)] * 11 + [(CLOSER, 0, 0)], True),
        ([], False),
    ],
)
def test_a_collision_needs_less_than_both_radii(offsets, touches):
    # At the origin the offsets are exact.
    state = with_projectiles(player_at(server(), (0, 0, 0)), *offsets)
    detected = run("detect_collisions", state)
    assert bool(detected.collision) is touches
    assert not detected.game_over
    assert_only_changed(state, detected, "collision")


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("touching", [False, True])
def test_a_pending_collision_stays_and_none_is_added_after_the_end(over, pending, touching):
    state = with_projectiles(server(), *[(0, 0, 1)] * touching)
    state = state.replace(collision=jnp.asarray(pending), game_over=jnp.asarray(over))
    detected = run("detect_collisions", state)
    assert bool(detected.collision) is (pending or (touching and not over))
    assert bool(detected.game_over) is over


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("pending", [False, True])
def test_a_pending_collision_ends_the_game_and_is_consumed(over, pending):
    before = server().replace(collision=jnp.asarray(pending), game_over=jnp.asarray(over))
    state = run("handle_collisions", before)
    assert (bool(state.collision), bool(state.game_over)) == (False, pending or over)
    assert_only_changed(before, state, "collision", "game_over")


# The spawners and the indicators


def with_timer(state: State, elapsed: int) -> State:
    return state.replace(spawn_timer=Duration.from_nanoseconds(elapsed))


@pytest.mark.parametrize(
    ("level", "height", "flight"), [(1, f32(2.5), f32(2.0)), (2, f32(1.5), f32(0.8))], ids=["1", "2"]
)
@pytest.mark.parametrize("mode", ["standard", "topdown", "with_thrower"])
def test_throws_are_aimed_at_where_the_player_is_now(mode, level, height, flight):
    config = GameConfig(level=level, observation_mode=mode)
    interval = round(config.projectile_spawn_interval * 1e9)
    params = game_params(config)
    state = player_at(with_timer(server(), interval - FRAME + 5), (1.3, -2.7, 1.9))
    x, y = f32(-3.7), f32(19.1)
    spawners = {"spawn_projectiles": "spawned_projectile", "spawn_thrower_indicators": "spawned_thrower"}
    active = "spawn_thrower_indicators" if mode == "with_thrower" else "spawn_projectiles"
    for name, deferred in spawners.items():
        after = run(name, state, spawn=(x, y), params=params)
        assert_only_changed(state, after, *(("spawn_timer", deferred) if name == active else ()))
    after = run(active, state, spawn=(x, y), params=params)
    spawn = getattr(after, spawners[active])
    assert bool(spawn.due)
    assert nanoseconds(after.spawn_timer) == 5
    assert numbers(spawn.position) == [x, y, height]
    # The target is the player's start height, however high the player is.
    climb = (f32(1) - height + f32(0.5) * f32(9.8) * flight * flight) / flight
    assert numbers(spawn.velocity) == [(f32(1.3) - x) / flight, (f32(-2.7) - y) / flight, climb]
    if mode == "with_thrower":
        assert nanoseconds(spawn.delay) == 500_000_000


@pytest.mark.parametrize("mode", ["standard", "with_thrower"])
def test_no_throw_before_the_interval_is_over(mode):
    name = "spawn_thrower_indicators" if mode == "with_thrower" else "spawn_projectiles"
    params = game_params(GameConfig(level=2, observation_mode=mode))
    waiting = run(name, with_timer(server(), 500_000_000 - FRAME - 1), params=params)
    assert not (waiting.spawned_projectile.due | waiting.spawned_thrower.due)
    assert nanoseconds(waiting.spawn_timer) == 499_999_999
    thrown = run(name, waiting, 1, params=params)
    assert bool(thrown.spawned_projectile.due | thrown.spawned_thrower.due)
    assert nanoseconds(thrown.spawn_timer) == 0


def test_indicators_stop_at_their_delay_and_fire_only_where_pending():
    elapsed = [0, 700_000_000 - FRAME - 1, 700_000_000 - FRAME, 699_999_999]
    state = server()
    throwers = state.throwers.replace(
        elapsed=Duration(jnp.zeros(INDICATORS, jnp.int32), jnp.asarray(elapsed, jnp.int32)),
        duration=Duration(jnp.zeros(INDICATORS, jnp.int32), jnp.full(INDICATORS, 700_000_000, jnp.int32)),
        count=jnp.int32(3),
    )
    before = state.replace(throwers=throwers)
    after = run("process_thrower_indicators", before)
    assert after.throwers.elapsed.nanoseconds[:3].tolist() == [FRAME, 699_999_999, 700_000_000]
    assert after.throwers.fired.tolist() == [False, False, True, False]
    assert int(after.throwers.count) == 3
    assert int(after.projectiles.count) == 0
    assert_only_changed(before, after, "throwers")


@pytest.mark.parametrize("of", ["player", "projectile"])
def test_a_position_that_is_not_a_number_is_hit(of):
    state = with_projectiles(server(), (9.0, 9.0, 9.0) if of == "player" else (np.nan, 9.0, 9.0))
    if of == "player":
        position = state.player.position.replace(y=jnp.float32(np.nan))
        state = state.replace(player=state.player.replace(position=position))
    assert bool(run("detect_collisions", state).collision)
