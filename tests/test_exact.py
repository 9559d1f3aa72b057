"""Float32 operations round once each. A failure here means that a compiler
has begun to merge operations.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compilation import users_jit
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge import exact

LANES = 1 << 18


def random_float32(seed: int, lowest_exponent: int = -6, highest_exponent: int = 7) -> np.ndarray:
    generator = np.random.default_rng(seed)
    scale = 10.0 ** generator.integers(lowest_exponent, highest_exponent, LANES)
    return (generator.standard_normal(LANES) * scale).astype(np.float32)


def test_product_is_rounded_before_an_addition():
    a, b, c = (random_float32(seed, -1, 1) for seed in range(3))
    computed = users_jit(lambda a, b, c: exact.product(a, b) + c)(a, b, c)
    np.testing.assert_array_equal(computed, a * b + c)
    computed = users_jit(lambda a, b, c: c - exact.product(a, b))(a, b, c)
    np.testing.assert_array_equal(computed, c - a * b)


def test_product_by_a_constant_is_rounded_before_an_addition():
    a, c = random_float32(0, -1, 1), random_float32(1, -1, 1)
    computed = users_jit(lambda a, c: exact.product(a, np.float32(9.8)) + c)(a, c)
    np.testing.assert_array_equal(computed, a * np.float32(9.8) + c)


def test_product_keeps_nan():
    assert np.isnan(exact.product(jnp.float32(jnp.nan), jnp.float32(1)))


@pytest.mark.parametrize("divisor", [24.0, 3.0, 0.1, 1e9])
def test_quotient_by_a_constant(divisor):
    a = random_float32(3)
    computed = users_jit(lambda a: exact.divide(a, np.float32(divisor)) * np.float32(84))(a)
    np.testing.assert_array_equal(computed, a / np.float32(divisor) * np.float32(84))


def test_quotient_of_arrays():
    a, b = random_float32(4), random_float32(5)
    np.testing.assert_array_equal(users_jit(exact.divide)(a, b), a / b)


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
    np.testing.assert_array_equal(users_jit(exact.nearest_quotient)(a, b, guess), a / b)


def rounded_roots(a: np.ndarray) -> np.ndarray:
    """`math.sqrt` rounded to float32; a double root of a float32 never lies near a midpoint."""
    return np.array([math.sqrt(value) for value in a.tolist()], np.float64).astype(np.float32)


def with_error(values: np.ndarray, error: int) -> np.ndarray:
    return (values.view(np.int32) + np.int32(error)).view(np.float32)


nearest_root = users_jit(exact.nearest_root)
POSITIVE_BITS = st.integers(1, 0x7F7FFFFF)
"""Of every positive number, the subnormal ones too."""


@pytest.mark.parametrize("error", [-2, -1, 0, 1, 2])
def test_nearest_root_corrects_a_guess_at_every_exponent(error):
    mantissas = np.random.default_rng(error + 2).integers(0, 1 << 23, (255, 64))
    mantissas[:, :4] = 0, 1, (1 << 23) - 2, (1 << 23) - 1
    bits = (np.arange(255)[:, None] << 23) + mantissas
    a = bits[bits > 0].astype(np.int32).view(np.float32)
    expected = rounded_roots(a)
    np.testing.assert_array_equal(nearest_root(a, with_error(expected, error)), expected)


@pytest.mark.parametrize("error", [-2, -1, 1, 2])
def test_nearest_root_corrects_a_guess_next_to_every_midpoint(error):
    """Numbers next to the square of a midpoint between two roots: the hardest to decide."""
    roots = np.random.default_rng(error + 2).integers(1 << 23, 1 << 24, 1 << 16).astype(np.float64) + 0.5
    below = (roots**2).astype(np.float32)
    a = np.concatenate([below, np.nextafter(below, np.float32(0)), np.nextafter(below, np.float32(np.inf))])
    expected = np.sqrt(a.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(nearest_root(a, with_error(expected, error)), expected)


@pytest.mark.parametrize("exponent", [126, 127])
def test_the_root_is_rounded_for_a_sample_through_all_mantissas(exponent):
    mantissas = np.arange(0, 1 << 23, 31, np.int32)
    a = ((exponent << 23) + mantissas).view(np.float32)
    expected = np.sqrt(a.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(users_jit(exact.sqrt)(a), expected)
    np.testing.assert_array_equal(nearest_root(a, with_error(expected, 1)), expected)


@settings(max_examples=50)
@given(st.lists(st.tuples(POSITIVE_BITS, st.integers(-2, 2)), min_size=8, max_size=8))
def test_nearest_root_is_that_of_python(cases):
    a = np.array([bits for bits, _ in cases], np.int32).view(np.float32)
    expected = rounded_roots(a)
    errors = np.array([error for _, error in cases], np.int32)
    guess = (expected.view(np.int32) + errors).view(np.float32)
    np.testing.assert_array_equal(nearest_root(a, guess), expected)


def test_roots_without_a_finite_positive_answer():
    a = np.array([0, -0.0, np.inf, -1, np.nan], np.float32)
    with np.errstate(invalid="ignore"):
        expected = np.sqrt(a)
    for computed in (exact.sqrt(a), nearest_root(a, expected)):
        np.testing.assert_array_equal(computed, expected)
        assert np.signbit(computed[1])


def test_the_root_composes_with_vmap_scan_and_jit():
    a = np.abs(random_float32(8))[:60].reshape(3, 20)

    def rows(a):
        return jax.lax.scan(lambda carry, row: (carry, jax.vmap(exact.sqrt)(row)), None, a)[1]

    np.testing.assert_array_equal(users_jit(jax.vmap(rows))(a[:, None]), np.sqrt(a)[:, None])
