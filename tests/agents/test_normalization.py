"""Running mean and variance: those of everything at once, whatever the batches were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.agents.networks import (
    MAX_DEVIATIONS,
    Statistics,
    init_statistics,
    normalize,
    update_statistics,
)

FEATURES = 3


def included(batches: list[np.ndarray]) -> Statistics:
    statistics = init_statistics(FEATURES)
    for batch in batches:
        statistics = update_statistics(statistics, jnp.asarray(batch))
    return statistics


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.integers(0, 1000),
    st.floats(-100, 100),
    st.floats(0.01, 100),
)
def test_batches_add_up_to_the_mean_and_variance_of_everything(sizes, seed, mean, deviation):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(mean, deviation, (size, FEATURES)).astype(np.float32) for size in sizes]
    everything = np.concatenate(batches).astype(np.float64)
    statistics = included(batches)
    assert int(statistics.count) == len(everything)
    size = np.abs(everything).max()
    np.testing.assert_allclose(statistics.mean, everything.mean(axis=0), atol=1e-6 * size)
    np.testing.assert_allclose(
        statistics.squares / statistics.count, everything.var(axis=0), rtol=1e-4, atol=1e-6 * size**2
    )


def test_what_was_included_comes_out_with_mean_0_and_variance_1():
    rng = np.random.default_rng(0)
    batch = rng.normal([5.0, -300.0, 0.001], [2.0, 50.0, 0.01], (4000, FEATURES)).astype(np.float32)
    normalized = np.asarray(normalize(included(np.split(batch, 8)), batch))
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(normalized.std(axis=0), 1, atol=1e-3)


def test_without_any_vectors_nothing_changes():
    vector = jnp.array([-3.0, 0.0, 7.5])
    np.testing.assert_array_equal(normalize(init_statistics(FEATURES), vector), vector)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 12.5])
def test_a_feature_that_never_varied_only_loses_its_mean(value):
    statistics = included([np.full((7, FEATURES), value, np.float32) for _ in range(50)])
    features = jnp.array([value, value + 0.5, value - 2])
    np.testing.assert_allclose(normalize(statistics, features), [0, 0.5, -2], atol=1e-5)


def test_outliers_are_clipped():
    statistics = included([np.random.default_rng(0).normal(size=(500, FEATURES)).astype(np.float32)])
    clipped = normalize(statistics, jnp.array([1e6, -1e6, 0.0]))
    np.testing.assert_allclose(clipped, [MAX_DEVIATIONS, -MAX_DEVIATIONS, 0], atol=0.2)
    assert (np.abs(clipped) <= MAX_DEVIATIONS).all()


def test_any_leading_axes_are_normalized_alike():
    statistics = included([np.random.default_rng(0).normal(size=(9, FEATURES)).astype(np.float32)])
    vectors = np.random.default_rng(1).normal(size=(2, 4, FEATURES)).astype(np.float32)
    one_by_one = [[normalize(statistics, vector) for vector in row] for row in vectors]
    np.testing.assert_allclose(normalize(statistics, vectors), one_by_one, rtol=1e-5, atol=1e-6)


def test_statistics_follow_their_input_however_many_vectors_came_before():
    before = Statistics(jnp.float32(2**24), jnp.zeros(1), jnp.full(1, 2.0**24))
    one = jnp.ones((1, 1), jnp.float32)
    after = jax.jit(lambda: jax.lax.fori_loop(0, 2**19, lambda _, now: update_statistics(now, one), before))()
    # Half of what is remembered.
    assert 0.35 < float(after.mean[0]) < 0.55
    assert float(after.squares[0] / after.count) < 1.1
