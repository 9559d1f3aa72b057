"""`handle_commands`: actions of every space, resets and configurations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.config import GameConfig
from jaxdodge.sim.actions import action_size, movement
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.params import game_params
from jaxdodge.sim.state import State, Vector, server_start
from jaxdodge.sim.systems import Command, Inputs, configured, handle_commands

f32 = np.float32
SLOTS = 4
SPEED, SPRINT = f32(3.3), f32(1.7)
PARAMS = game_params(GameConfig(player_speed=SPEED, sprint_multiplier=SPRINT))


def busy_server() -> State:
    """A server in the middle of a game that is over, every value different from its start."""
    state = server_start(SLOTS, 2)
    generator = np.random.default_rng(0)

    def anything(array):
        values = generator.integers(1, 9, array.shape)
        return jnp.asarray(values % 2 if array.dtype == bool else values, array.dtype)

    state = state.replace(
        player=jax.tree.map(anything, state.player).replace(on_ground=jnp.asarray(False)),
        throwers=jax.tree.map(anything, state.throwers).replace(count=jnp.int32(2)),
        spawn_timer=Duration.from_nanoseconds(1_234_567_890),
        collision=jnp.asarray(True),
        game_over=jnp.asarray(True),
        episode_steps=jnp.int32(41),
    )
    return state.replace(projectiles=state.projectiles.replace(count=jnp.int32(3)))


@jax.jit
def handle(state: State, *commands: Command) -> State:
    return handle_commands(state, PARAMS, inputs_of(*commands))


def inputs_of(*commands: Command) -> Inputs:
    return Inputs(jnp.int32(0), jnp.float32(0), (jnp.float32(0), jnp.float32(0)), commands)


def act(state: State, space: str, action) -> State:
    array = jnp.int32(action) if space == "discrete" else jnp.asarray(action, jnp.float32)
    return handle(state, Command(step=jnp.asarray(True), move=movement(array, space)))


def on_ground(state: State, yes: bool) -> State:
    return state.replace(player=state.player.replace(on_ground=jnp.asarray(yes)))


def velocity(state: State) -> tuple[float, ...]:
    v = state.player.velocity
    return float(v.x), float(v.y), float(v.z)


@pytest.mark.parametrize(
    ("action", "direction"), [(0, (0, 0)), (1, (0, 1)), (2, (0, -1)), (3, (-1, 0)), (4, (1, 0))]
)
def test_discrete_actions(action, direction):
    state = on_ground(busy_server(), True)
    before = velocity(state)[2]
    assert velocity(act(state, "discrete", action)) == (direction[0] * SPEED, direction[1] * SPEED, before)


# The place of every component; pitch and roll are everything else.
LAYOUTS = {
    "basic_3d": {"vx": 0, "vy": 1, "sprint": 2},
    "basic_4d_jump": {"vx": 0, "vy": 1, "sprint": 2, "jump": 3},
    "tilt_5d": {"vx": 0, "vy": 1, "sprint": 4},
    "full_6d": {"vx": 0, "vy": 1, "jump": 2, "sprint": 5},
}


def place(space: str, other: float, **components) -> np.ndarray:
    action = np.full(action_size(space), other, f32)
    for name, value in components.items():
        if name in LAYOUTS[space]:
            action[LAYOUTS[space][name]] = value
    return action


@pytest.mark.parametrize("other", [-1.0, 0.3, 1.0], ids=lambda other: f"pitch and roll {other}")
@pytest.mark.parametrize("sprint", [-1.0, -0.1, 0.7, 1.0])
@pytest.mark.parametrize("space", LAYOUTS)
def test_continuous_actions_set_an_unnormalised_velocity(space, sprint, other):
    assert action_size(space) == len({**LAYOUTS[space]}) + 2 * (space in ("tilt_5d", "full_6d"))
    vx, vy = f32(0.9), f32(-1)
    state = on_ground(busy_server(), True)
    before = velocity(state)[2]
    after = act(state, space, place(space, other, vx=vx, vy=vy, sprint=sprint, jump=-1))
    effective = SPEED * (f32(1) + (f32(sprint) + f32(1)) / f32(2) * SPRINT)
    assert velocity(after) == (vx * effective, vy * effective, before)
    assert int(after.episode_steps) == 42
    assert bool(after.player.on_ground)


@pytest.mark.parametrize("standing", [True, False])
@pytest.mark.parametrize(
    ("jump", "wanted"), [(-1, False), (0, False), (f32(-1e-3), False), (f32(1e-3), True), (1, True)]
)
@pytest.mark.parametrize("space", LAYOUTS)
def test_jumps_from_the_ground_only(space, jump, wanted, standing):
    state = on_ground(busy_server(), standing)
    before = velocity(state)[2]
    jumps = wanted and standing and "jump" in LAYOUTS[space]
    after = act(state, space, place(space, 1.0, vx=0, vy=0, sprint=0, jump=jump))
    assert velocity(after)[2] == (7 if jumps else before)
    # The next frame's gravity decides whether the player is in the air.
    assert bool(after.player.on_ground) is standing


def assert_kept(before: State, after: State, *parts: str) -> None:
    for part in parts:
        jax.tree.map(np.testing.assert_array_equal, getattr(before, part), getattr(after, part))


KEPT_BY_A_RESET = (
    "throwers",
    "spawned_projectile",
    "spawned_thrower",
    "spawn_timer",
    "collision",
)


def assert_reset(before: State, after: State) -> None:
    assert after.player.position == Vector(0, 0, 1)
    assert velocity(after) == (0, 0, 0)
    assert not after.game_over
    assert int(after.episode_steps) == 0
    assert after.cleared
    assert int(after.projectiles.count) == 3, "removals are deferred"
    assert bool(after.player.on_ground) == bool(before.player.on_ground)


@pytest.mark.parametrize("standing", [True, False])
def test_a_reset_keeps_ground_indicators_collision_and_timer(standing):
    before = on_ground(busy_server(), standing)
    after = handle(before, Command(reset=jnp.asarray(True)))
    assert_reset(before, after)
    assert_kept(before, after, *KEPT_BY_A_RESET)


@pytest.mark.parametrize("restart", [True, False])
def test_configure_is_a_reset_and_restarts_the_timer_only_with_its_interval(restart):
    before = busy_server()
    params = game_params(GameConfig(level=2, projectile_spawn_interval=1.2, player_speed=9))
    yes, restarts = jnp.asarray(True), jnp.asarray(restart)
    after = handle(before, Command(reset=yes, restart_timer=restarts, params=params))
    assert_reset(before, after)
    assert_kept(
        before,
        after,
        *(part for part in KEPT_BY_A_RESET if part != "spawn_timer"),
    )
    timer = [int(number) for number in jax.tree.leaves(after.spawn_timer)]
    assert timer == ([0, 0] if restart else [1, 234_567_890])
    assert configured(PARAMS, inputs_of(Command(params=params), Command(reset=yes))) is params
    assert configured(PARAMS, inputs_of(Command(reset=yes))) is PARAMS


def test_commands_take_effect_in_the_order_of_their_arrival():
    state = on_ground(busy_server(), True)
    yes = jnp.asarray(True)
    step = Command(step=yes, move=movement(jnp.int32(4), "discrete"))
    reset, configure = Command(reset=yes), Command(reset=yes, params=game_params(GameConfig(player_speed=9)))

    def outcome(*commands):
        after = handle(state, *commands)
        return float(after.player.velocity.x), int(after.episode_steps)

    assert outcome(step, step) == (SPEED, 43)
    assert outcome(step, reset) == (0, 0)
    assert outcome(reset, step) == (SPEED, 1)
    assert outcome(configure, step) == (9, 1)
    assert outcome(step, reset, step, step) == (SPEED, 2)


def test_a_command_that_is_off_does_nothing():
    state = busy_server()
    no = jnp.asarray(False)
    off = Command(step=no, move=movement(jnp.int32(1), "discrete"), reset=no, restart_timer=no, params=PARAMS)
    jax.tree.map(np.testing.assert_array_equal, handle(state, off), state)
