"""What the networks see, and their shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.agents.networks import CRITICS, Actor, critic_ensemble, sample_action, vector_features
from jaxdodge.config import GameConfig
from jaxdodge.sim.env import DodgeEnv

SLOTS = 10


def _observation(count: int, rng: np.random.Generator) -> np.ndarray:
    """A standard observation with projectiles in the first `count` slots."""
    observation = np.zeros(65, np.float32)
    observation[:5] = rng.normal(size=5)
    observation[5 : 5 + 6 * count] = rng.normal(scale=8, size=6 * count)
    return observation


def _permuted(observation: np.ndarray, order: list[int]) -> np.ndarray:
    slots = observation[5:65].reshape(SLOTS, 6)
    return np.concatenate([observation[:5], slots[order].reshape(-1), observation[65:]])


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(SLOTS)), st.integers(0, SLOTS), st.integers(0, 1000))
def test_the_order_of_the_table_is_invisible(order, count, seed):
    observation = _observation(count, np.random.default_rng(seed))
    config = GameConfig()
    seen, permuted = (
        vector_features(jnp.asarray(o), config) for o in (observation, _permuted(observation, order))
    )
    np.testing.assert_array_equal(seen, permuted)


def test_projectiles_are_relative_flagged_and_nearest_first():
    observation = np.zeros(65, np.float32)
    observation[:3] = 1, 2, 1
    observation[5:11] = 1, 12, 1, 0, -10, 0
    observation[11:17] = 1, 7, 1, 0, -20, 0
    features = vector_features(jnp.asarray(observation), GameConfig())
    slots = features[5:].reshape(SLOTS, 7)
    np.testing.assert_allclose(slots[0], [0, 0.5, 0, 0, -2, 0, 1], atol=1e-6)
    np.testing.assert_allclose(slots[1], [0, 1.0, 0, 0, -1, 0, 1], atol=1e-6)
    assert not slots[2:].any()


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, 75),
        ({"observation_mode": "with_thrower"}, 80),
        ({"frame_stack": 3}, 225),
        ({"frames_per_step": 7, "response_frame": 0}, 80),
        (
            {"frames_per_step": 7, "response_frame": 0, "frame_stack": 2, "observation_mode": "with_thrower"},
            165,
        ),
    ],
)
def test_features_of_every_kind_of_observation(fields, size):
    config = GameConfig(level=2, **fields)
    shape = DodgeEnv(config).observation_space().shape
    batch = np.random.default_rng(0).normal(scale=5, size=(2, 3, *shape)).astype(np.float32)
    features = vector_features(jnp.asarray(batch), config)
    assert features.shape == (2, 3, size)
    if config.observe_previous_action:
        np.testing.assert_array_equal(features[..., -5:], batch[..., -5:])
    np.testing.assert_allclose(features[1, 2], vector_features(jnp.asarray(batch[1, 2]), config), rtol=1e-6)


def test_features_of_play_are_about_one():
    config = GameConfig(
        level=2, observation_mode="with_thrower", spawn_angle_degrees=180.0, frames_per_step=7
    )
    env = DodgeEnv(config)
    _, state = env.reset(jax.random.key(0))
    for step in range(60):
        action = jnp.sin(step + jnp.arange(5.0))
        observation, state, *_ = env.step(jax.random.key(step), state, action)
        assert np.abs(vector_features(observation, config)).max() < 4


def test_critics_have_parameters_of_their_own():
    critics = critic_ensemble((16,))
    params = critics.init(jax.random.key(0), jnp.zeros(4), jnp.zeros(2))
    values = critics.apply(params, jnp.ones((7, 4)), jnp.ones((7, 2)))
    assert values.shape == (CRITICS, 7)
    assert (values[0] != values[1]).all()


def test_density_of_sampled_actions_integrates_to_one():
    mean, log_std = jnp.array([0.3]), jnp.array([-0.5])
    noise = jax.random.split(jax.random.key(0), 200_000)
    action, log_density = jax.vmap(lambda key: sample_action(key, mean, log_std))(noise)
    assert action.shape == (200_000, 1)
    # E[1 / p(a)] is the volume of the action space, of which samples cover nearly all.
    inner = jnp.abs(action[:, 0]) < 0.9
    assert float(jnp.mean(jnp.where(inner, jnp.exp(-log_density), 0))) == pytest.approx(1.8, abs=0.05)


def test_the_actor_is_wide_enough_to_explore_and_bounded():
    actor = Actor((16,), 3)
    mean, log_std = actor.apply(actor.init(jax.random.key(0), jnp.zeros(4)), 1e3 * jnp.ones((5, 4)))
    assert mean.shape == log_std.shape == (5, 3)
    assert (log_std >= -5).all()
    assert (log_std <= 2).all()
