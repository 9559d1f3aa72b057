"""What is published: the reward and the vectors."""

import jax.numpy as jnp
import numpy as np
import pytest
from fast_compilation import users_jit

from jaxdodge.config import GameConfig
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.params import game_params
from jaxdodge.sim.publish import observe_vector, publish_state
from jaxdodge.sim.state import State, Vector, server_start

f32 = np.float32
INDICATORS = 3


def server(projectiles, slots: int = 13) -> State:
    """Projectiles are rows of position and velocity; the slots that are
    not in use hold other numbers.
    """
    state = server_start(slots, INDICATORS)
    table = np.full((6, slots), 0.125, f32)
    for slot, row in enumerate(projectiles):
        table[:, slot] = [*row, *[0] * (6 - len(row))]
    columns = [jnp.asarray(column) for column in table]
    return state.replace(
        projectiles=state.projectiles.replace(
            position=Vector(*columns[:3]), velocity=Vector(*columns[3:]), count=jnp.int32(len(projectiles))
        )
    )


published = users_jit(publish_state)
PARAMS = game_params(GameConfig())
REWARDS = game_params(
    GameConfig(
        collision_penalty=-7.3,
        survival_reward=0.21,
        dodge_bonus_threshold=2.3,
        dodge_bonus_multiplier=1.9,
    )
)
FAR = (9.0, 9.0, 9.0)


@pytest.mark.parametrize(
    ("projectiles", "distance"),
    [
        ([], None),
        ([FAR], None),
        ([(1.7, 0, 1)], f32(1.7)),
        ([(2.3, 0, 1)], None),
        ([(np.nextafter(f32(2.3), f32(0)), 0, 1)], np.nextafter(f32(2.3), f32(0))),
        ([(0, 0, 1)], f32(0)),
        ([(0, 2.1, 1), (0, 0, 2.5), FAR], f32(1.5)),
        ([FAR] * 11 + [(0, -1.1, 1)], f32(1.1)),
    ],
    ids=[
        "none",
        "far",
        "near",
        "at the threshold",
        "just inside it",
        "inside the player",
        "nearest",
        "the twelfth",
    ],
)
def test_the_reward_of_a_frame(projectiles, distance):
    reward = f32(0.21)
    if distance is not None:
        reward = f32(0.21) + (f32(2.3) - distance) * f32(1.9)
    state = server(projectiles)
    assert published(state, REWARDS).reward == reward
    assert published(state.replace(game_over=jnp.asarray(True)), REWARDS).reward == f32(-7.3)


def test_the_distance_is_euclidean_in_float32():
    offset = f32([0.7, -0.9, 1.1])
    state = server([(offset[0], offset[1], f32(1) + offset[2])])
    dx, dy, dz = offset[0], offset[1], f32(1) + offset[2] - f32(1)
    distance = np.sqrt(dx * dx + dy * dy + dz * dz)
    assert published(state, REWARDS).reward == f32(0.21) + (f32(2.3) - distance) * f32(1.9)


@pytest.mark.parametrize(("steps", "truncated"), [(0, False), (999, False), (1000, True), (1001, True)])
@pytest.mark.parametrize("over", [False, True])
def test_flags_and_counts(over, steps, truncated):
    state = server([FAR] * 12).replace(game_over=jnp.asarray(over), episode_steps=jnp.int32(steps))
    found = published(state, PARAMS)
    assert (bool(found.terminated), bool(found.truncated)) == (over, truncated)
    assert (int(found.episode_steps), int(found.projectile_count)) == (steps, 12)


@pytest.mark.parametrize("count", [0, 1, 10, 12])
@pytest.mark.parametrize("slots", [12, 13, 3])
def test_the_first_ten_projectiles_are_observed(slots, count):
    count = min(count, slots)
    rows = [[100 * slot + number for number in range(6)] for slot in range(count)]
    state = server(rows, slots)
    player = state.player.replace(position=Vector(*f32([1, 2, 3])), velocity=Vector(*f32([4, 5, 6])))
    observation = np.asarray(observe_vector(state.replace(player=player), PARAMS, False))
    assert observation.shape == (65,)
    assert observation[:5].tolist() == [1, 2, 3, 4, 5]
    seen = min(count, 10)
    assert observation[5 : 5 + 6 * seen].tolist() == [number for row in rows[:10] for number in row]
    assert not observation[5 + 6 * seen :].any()


@pytest.mark.parametrize(
    ("elapsed", "duration", "delay", "share"),
    [
        (0, 730_000_019, 0.73, f32(1)),
        (FRAMES := 3 * 16_666_667, 730_000_019, 0.73, f32(730_000_019 - FRAMES) / f32(1e9) / f32(0.73)),
        (730_000_019, 730_000_019, 0.73, f32(0)),
        # An indicator keeps its duration when the configured delay changes.
        (0, 500_000_000, 2.0, f32(0.25)),
        (0, 2_500_000_000, 0.5, f32(1)),
        (100_000_000, 2_500_000_000, 3.0, (f32(2) + f32(400_000_000) / f32(1e9)) / f32(3)),
    ],
)
def test_the_remaining_share_of_the_first_indicator(elapsed, duration, delay, share):
    state = server([])
    params = game_params(GameConfig(thrower_delay_seconds=delay, observation_mode="with_thrower"))

    def column(first: int) -> Duration:
        whole, rest = divmod(first, 10**9)
        return Duration(jnp.int32([whole, 0, 0]), jnp.int32([rest, 7, 7]))

    throwers = state.throwers.replace(
        position=Vector(*f32([[1, 9, 9], [2, 9, 9], [3, 9, 9]])),
        elapsed=column(elapsed),
        duration=column(duration),
    )
    for count in (1, 2):
        pending = state.replace(throwers=throwers.replace(count=jnp.int32(count)))
        observation = users_jit(observe_vector, static_argnums=2)(pending, params, True)
        assert observation.shape == (69,)
        assert observation[65:].tolist() == [1, 2, 3, share]
    none = state.replace(throwers=throwers)
    assert not observe_vector(none, params, True)[65:].any()
