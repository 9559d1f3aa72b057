"""The replay: what it holds after wrapping, and how episodes end in it."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.agents.config import TrainConfig
from jaxdodge.agents.game import arena_params, make_sac
from jaxdodge.agents.replay import Transition, add, empty_replay, sample
from jaxdodge.config import GameConfig

ARENAS = 3


def _row(step: int) -> Transition:
    """A step whose every number says which step and arena it is of."""
    number = 10 * step + jnp.arange(ARENAS, dtype=jnp.float32)
    return Transition(number[:, None], -number[:, None], number, jnp.ones(ARENAS), number[:, None] + 10)


def _filled(steps: int, length: int = 4):
    replay = empty_replay(length, ARENAS, jax.tree.map(lambda leaf: leaf[0], _row(0)))
    for step in range(1, steps + 1):
        replay = add(replay, _row(step))
    return replay


def _numbers(first: int, last: int) -> set[float]:
    return {10.0 * step + arena for step in range(first, last + 1) for arena in range(ARENAS)}


def test_only_added_rows_are_drawn():
    batch = sample(jax.random.key(0), _filled(2), 500)
    assert set(np.asarray(batch.reward)) == _numbers(1, 2)


def test_the_oldest_rows_are_replaced():
    batch = sample(jax.random.key(0), _filled(11), 1000)
    assert set(np.asarray(batch.reward)) == _numbers(8, 11)


def test_a_transition_stays_together():
    batch = sample(jax.random.key(0), _filled(7), 100)
    np.testing.assert_array_equal(batch.observation[:, 0], batch.reward)
    np.testing.assert_array_equal(batch.action[:, 0], -batch.reward)
    np.testing.assert_array_equal(batch.next_observation[:, 0], batch.reward + 10)


def test_episode_ends_keep_the_true_last_observation():
    game = GameConfig(
        level=2, action_space_type="basic_3d", frames_per_step=20, max_episode_steps=4, survival_reward=0.5
    )
    config = TrainConfig(num_envs=32, buffer_size=32 * 40, learning_starts=10_000, net_arch=(8,))
    sac = make_sac(game, config)
    params = arena_params(jax.random.key(0), sac.env.default_params, config)
    state, _ = sac.epoch(sac.init(jax.random.key(1), params), params, 40)
    stored = jax.tree.map(np.asarray, state.replay.transitions)

    continues = (stored.next_observation[:-1] == stored.observation[1:]).all(axis=-1)
    died = stored.discount[:-1] == 0
    assert died.any()
    assert (stored.reward[:-1][died] == -100).all()
    assert not continues[died].any()
    # The others that do not continue were cut by the step limit: they keep their value.
    cut = ~continues & ~died
    assert cut.any()
    assert (stored.discount[:-1][cut] == 1).all()
    assert (stored.reward[:-1][cut] > 0).all()
    # No episode goes on beyond the limit of 4 steps.
    assert not (continues[:-3] & continues[1:-2] & continues[2:-1] & continues[3:]).any()
