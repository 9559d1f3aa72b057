"""Float32 operations round once each. A failure here means that a compiler
has begun to merge operations.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge import exact

LANES = 1 << 18


def random_float32(seed: int, lowest_exponent: int = -6, highest_exponent: int = 7) -> np.ndarray:
    generator = np.random.default_rng(seed)
    scale = 10.0 ** generator.integers(lowest_exponent, highest_exponent, LANES)
    return (generator.standard_normal(LANES) * scale).astype(np.float32)


def test_product_is_rounded_before_an_addition():
    a, b, c = (random_float32(seed, -1, 1) for seed in range(3))
    computed = jax.jit(lambda a, b, c: exact.product(a, b) + c)(a, b, c)
    np.testing.assert_array_equal(computed, a * b + c)
    computed = jax.jit(lambda a, b, c: c - exact.product(a, b))(a, b, c)
    np.testing.assert_array_equal(computed, c - a * b)


def test_product_by_a_constant_is_rounded_before_an_addition():
    a, c = random_float32(0, -1, 1), random_float32(1, -1, 1)
    computed = jax.jit(lambda a, c: exact.product(a, np.float32(9.8)) + c)(a, c)
    np.testing.assert_array_equal(computed, a * np.float32(9.8) + c)


def test_product_keeps_nan():
    assert np.isnan(exact.product(jnp.float32(jnp.nan), jnp.float32(1)))


@pytest.mark.parametrize("divisor", [24.0, 3.0, 0.1, 1e9])
def test_quotient_by_a_constant(divisor):
    a = random_float32(3)
    computed = jax.jit(lambda a: exact.divide(a, np.float32(divisor)) * np.float32(84))(a)
    np.testing.assert_array_equal(computed, a / np.float32(divisor) * np.float32(84))


def test_quotient_of_arrays():
    a, b = random_float32(4), random_float32(5)
    np.testing.assert_array_equal(jax.jit(exact.divide)(a, b), a / b)


def test_quotients_without_a_finite_answer():
    a = np.array([1, -1, 0, np.inf, 1, np.nan], np.float32)
    b = np.array([0, 0, 0, 2, np.inf, 1], np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = a / b
    np.testing.assert_array_equal(exact.divide(a, b), expected)
    np.testing.assert_array_equal(
        exact.nearest_quotient(jnp.asarray(a), jnp.asarray(b), jnp.asarray(expected)), expected
    )


@pytest.mark.parametrize("error", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("divisor", [None, 24.0, 1e9])
def test_nearest_quotient_corrects_a_guess(error, divisor):
    a = random_float32(6)
    b = random_float32(7) if divisor is None else np.full(LANES, divisor, np.float32)
    guess = ((a / b).view(np.int32) + np.int32(error)).view(np.float32)
    np.testing.assert_array_equal(jax.jit(exact.nearest_quotient)(a, b, guess), a / b)
