"""What the networks see of a vector observation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.agents.features import NUM_PROJECTILES, vector_features
from jaxdodge.config import GameConfig
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.spaces import observation_space
from jaxdodge.sim.systems import PROJECTILE_GRAVITY, PROJECTILE_RADIUS, RESTITUTION

SLOTS = 10
PLAYER, PROJECTILE = 9, 11
STANDARD = PLAYER + NUM_PROJECTILES * PROJECTILE
SERVER = {"frames_per_step": 7, "response_frame": 0, "action_space_type": "basic_3d"}

features_of = jax.jit(vector_features, static_argnames=("config",))


def observation_of(*projectiles: tuple[float, ...], player=(0.0, 0.0, 1.0, 0.0, 0.0)) -> np.ndarray:
    """Position and velocity of the player; position and velocity of
    projectiles in the first slots.
    """
    observation = np.zeros(65, np.float32)
    observation[:5] = player
    for slot, projectile in enumerate(projectiles):
        observation[5 + 6 * slot : 11 + 6 * slot] = projectile
    return observation


def seen(observation: np.ndarray, config: GameConfig) -> np.ndarray:
    """Features of projectiles, (seen, each)."""
    features = features_of(observation, config)[PLAYER : PLAYER + NUM_PROJECTILES * PROJECTILE]
    return np.asarray(features).reshape(NUM_PROJECTILES, PROJECTILE)


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(SLOTS)), st.integers(0, SLOTS), st.integers(0, 1000))
def test_the_order_of_the_table_is_invisible(order, count, seed):
    rng = np.random.default_rng(seed)
    observation = observation_of(*rng.normal(scale=8, size=(count, 6)), player=rng.normal(size=5))
    permuted = observation.copy()
    permuted[5:] = observation[5:].reshape(SLOTS, 6)[order].reshape(-1)
    np.testing.assert_array_equal(features_of(observation, GameConfig()), features_of(permuted, GameConfig()))


def test_the_next_to_come_are_first_with_when_and_how_far_they_pass():
    # The first comes in 1.2 s and passes 0.3 m to the right, the second in 0.5 s head on.
    observation = observation_of((0.3, 12, 1, 0, -10, 0), (-5, 0, 1, 10, 0, 0))
    projectiles = seen(observation, GameConfig())
    # Times are a little short, for a denominator that is never 0.
    np.testing.assert_allclose(0.4 * projectiles[:2, 6], np.array([0.5, 1.2]) * 100 / 101, rtol=1e-5)
    np.testing.assert_allclose(projectiles[:2, :2], [[-0.5, 0], [0.03, 1.2]], atol=1e-6)
    np.testing.assert_allclose(projectiles[:2, 3:5], [[1, 0], [0, -1]], atol=1e-6)
    np.testing.assert_allclose(1.5 * projectiles[:2, 7:9], [[0, 0], [0.3, 0]], atol=0.15)
    np.testing.assert_array_equal(projectiles[:, -1], [1, 1, 0, 0])
    assert not projectiles[2:].any()


def test_a_projectile_that_has_passed_is_not_seen():
    flying_away = (0, -3, 1, 0, -10, 0)
    assert not seen(observation_of(flying_away), GameConfig()).any()
    projectiles = seen(observation_of(flying_away, (0, 8, 1, 0, -10, 0)), GameConfig())
    np.testing.assert_array_equal(projectiles[:, -1], [1, 0, 0, 0])


def test_a_projectile_that_has_come_to_rest_outside_does_not_hide_the_others():
    """It used to be the first to come, for ever: the agent died of the next throw."""
    resting = (-29.2, -22.4, 0.3, -0.001, -0.001, 0.1)
    thrown = (-5, 12, 1, 0, -10, 0)
    in_the_corner = {"player": (-5.0, -4.0, 1.0, 0.0, 0.0)}
    alone = features_of(observation_of(thrown, **in_the_corner), GameConfig())
    both = features_of(observation_of(resting, thrown, **in_the_corner), GameConfig())
    np.testing.assert_array_equal(both, alone)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 3), st.floats(-3, 5), st.floats(3, 12))
def test_the_height_at_which_a_projectile_passes_is_that_of_its_flight(height, climb, distance):
    projectile = seen(observation_of((0, distance, height, 0, -10, climb)), GameConfig())[0]
    step, remaining, bounces = 1e-4, 0.4 * float(projectile[6]), 0
    height_now, climb_now = height, climb
    while remaining > 0:
        height_now, climb_now = height_now + climb_now * step, climb_now - PROJECTILE_GRAVITY * step
        if height_now < PROJECTILE_RADIUS and climb_now < 0:
            climb_now, bounces = -RESTITUTION * climb_now, bounces + 1
        remaining -= step
    if bounces < 2:
        assert float(projectile[9]) == pytest.approx(height_now - 1, abs=0.02)


def test_the_player_is_seen_where_the_next_action_will_find_it():
    config = GameConfig(level=2, **SERVER)
    # Full speed to the right without a sprint, of which the velocity of
    # the response knows nothing yet.
    observation = np.concatenate([observation_of((0, 10, 1, 0, -10, 0)), [1, 0, -1]]).astype(np.float32)
    features = features_of(observation, config)
    ahead = 5 * 7 / 60
    np.testing.assert_allclose(features[:5], [ahead / 5, 0, 0, 5 / 15, 0], atol=1e-5)
    np.testing.assert_allclose(
        features[PLAYER : PLAYER + 2], [-ahead / 10, (10 - 10 * 7 / 60) / 10], atol=1e-5
    )
    observation[-3] = 0
    np.testing.assert_allclose(features_of(observation, config)[:5], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, STANDARD),
        ({"observation_mode": "with_thrower"}, STANDARD + 5),
        ({"frame_stack": 3}, 3 * STANDARD),
        (SERVER, STANDARD + 3),
        (SERVER | {"frame_stack": 2, "observation_mode": "with_thrower"}, 2 * (STANDARD + 5) + 3),
    ],
)
def test_features_of_every_kind_of_observation(fields, size):
    config = GameConfig(level=2, **fields)
    shape = observation_space(config).shape
    batch = np.random.default_rng(0).normal(scale=5, size=(2, 3, *shape)).astype(np.float32)
    features = features_of(batch, config)
    assert features.shape == (2, 3, size)
    if config.observe_previous_action:
        np.testing.assert_array_equal(features[..., -3:], batch[..., -3:])
    np.testing.assert_allclose(features[1, 2], features_of(batch[1, 2], config), rtol=1e-4, atol=1e-4)


def test_features_of_play_are_about_one():
    config = GameConfig(
        level=2, observation_mode="with_thrower", spawn_angle_degrees=180.0, frames_per_step=7
    )
    env = DodgeEnv(config)

    def step(state, index):
        action = jnp.sin(index + jnp.arange(5.0))
        observation, state, *_ = env.step(jax.random.key(index), state, action)
        return state, vector_features(observation, config)

    _, state = jax.jit(env.reset)(jax.random.key(0))
    features = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(60))[1])(state)
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 8
    assert np.abs(features).mean() < 1


@pytest.mark.parametrize(
    ("position", "room"),
    [
        ((0.0, 0.0), [1, 1, 1, 1]),  # right, up, left, down; no wall within 2 m
        ((4.5, 0.0), [0.25, 1, 1, 1]),
        ((-5.0, -4.0), [1, 1, 0, 0]),
        ((3.5, 3.0), [0.75, 0.5, 1, 1]),
    ],
)
def test_walls_are_seen_from_near(position, room):
    observation = observation_of(player=(*position, 1.0, 0.0, 0.0))
    np.testing.assert_allclose(features_of(observation, GameConfig())[5:PLAYER], room, atol=1e-6)


def test_of_equally_near_projectiles_the_first_is_seen_first():
    both = ((0.5, 10, 1, 0, -10, 0), (-0.5, 10, 1, 0, -10, 0))
    projectiles = seen(observation_of(*both), GameConfig())
    np.testing.assert_allclose(projectiles[:2, 0], [0.05, -0.05], atol=1e-6)
