"""Arithmetic that rounds as the game does: every float32 operation once, to
nearest, in the order written.

Compilers do not keep to that by themselves. XLA fuses a product into a following addition (one
rounding instead of two), replaces a division by a constant by a multiplication with its reciprocal,
and divides and takes square roots approximately on GPUs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike


def product(a: ArrayLike, b: ArrayLike) -> Array:
    """`a * b` in float32, rounded before anything is added to it.

    a, b: float32, shapes that broadcast. Returns float32 of the broadcast shape.
    """
    rounded = a * b
    # A selection between product and sum keeps XLA CPU from fusing the two;
    # optimisation barriers do not.
    return jnp.where(jnp.isnan(rounded), jnp.nan, rounded)


# Jitted, as is the square root: what divides in many places traces it once.
@jax.jit
def divide(a: ArrayLike, b: ArrayLike) -> Array:
    """`a / b` in float32, correctly rounded, also for a constant `b` and on GPUs.

    a, b: float32, shapes that broadcast. Returns float32 of the broadcast shape.
    Subnormal quotients, and those of numerators below about 1e-31 in magnitude,
    are as the platform gives them.
    """
    a = jnp.asarray(a, jnp.float32)
    # The compiler cannot know that `a` is no NaN, so it cannot treat the divisor as a constant.
    divisor = jnp.where(jnp.isnan(a), jnp.nan, jnp.asarray(b, jnp.float32))
    return lax.platform_dependent(
        a, divisor, cpu=jnp.divide, default=lambda a, b: nearest_quotient(a, b, jnp.divide(a, b))
    )


def nearest_quotient(a: Array, b: Array, guess: Array) -> Array:
    """The float32 nearest to `a / b`, from a guess that is at most
    two units in the last place away.

    Two is the error that CUDA documents for its fast division (`div.full.f32`). All arguments:
    float32, with shapes that broadcast. A guess that is infinite or NaN is returned as it is.
    """
    bits = lax.bitcast_convert_type(guess, jnp.int32)
    nearest, least = guess, jnp.abs(_remainder(a, b, guess))
    for steps in (-2, -1, 1, 2):
        candidate = lax.bitcast_convert_type(bits + steps, jnp.float32)
        remainder = jnp.abs(_remainder(a, b, candidate))
        # False for NaN, so neighbours of zero and of infinity that are no numbers are never chosen.
        closer = remainder < least
        nearest, least = jnp.where(closer, candidate, nearest), jnp.where(closer, remainder, least)
    return nearest


@jax.jit
def sqrt(a: ArrayLike) -> Array:
    """The square root in float32, correctly rounded, also on GPUs.

    a: float32. Returns float32 of the same shape; NaN of a negative number. On a CPU, XLA takes
    subnormal numbers for zero.
    """
    a = jnp.asarray(a, jnp.float32)
    return lax.platform_dependent(a, cpu=jnp.sqrt, default=lambda a: nearest_root(a, jnp.sqrt(a)))


# Below this the square of a root's last bit would be subnormal, and its remainder not exact.
_SMALL = 2.0**-64


def nearest_root(a: Array, guess: Array) -> Array:
    """The float32 nearest to the square root of `a`, from a guess that is at most
    two units in the last place away.

    That covers the relative error of 2^-23 which PTX documents for `sqrt.approx.f32`. Both
    arguments: float32 of one shape. A guess that is infinite, zero or NaN is returned as it is.

    The remainder `a - root^2` decides: counted in squared units of the root's last place, `a` is
    an integer, so it never equals the square of a midpoint, which ends in a quarter. The remainder
    of the nearest root has at most 24 bits and is exact; that of every other one is larger.
    """
    small = a < _SMALL
    subnormal = a < np.finfo(np.float32).smallest_normal
    # Products with powers of two are exact. Some platforms take subnormal numbers for zero.
    units = lax.bitcast_convert_type(a, jnp.int32).astype(jnp.float32)
    a = jnp.where(small, jnp.where(subnormal & (a >= 0), units * 2.0**-85, a * 2.0**64), a)
    guess = jnp.where(small, guess * 2.0**32, guess)
    bits = lax.bitcast_convert_type(guess, jnp.int32)
    nearest, least = guess, jnp.abs(_root_remainder(a, guess))
    for steps in (-2, -1, 1, 2):
        candidate = lax.bitcast_convert_type(bits + steps, jnp.float32)
        remainder = jnp.abs(_root_remainder(a, candidate))
        # False for NaN, as for quotients.
        closer = remainder < least
        nearest, least = jnp.where(closer, candidate, nearest), jnp.where(closer, remainder, least)
    return jnp.where(small, nearest * 2.0**-32, nearest)


def _root_remainder(a: Array, root: Array) -> Array:
    """`a - root * root` for a root near that of `a`, rounded at most once.

    Split as in `_remainder`. Every difference but the last is exact.
    """
    upper = _upper_half(root)
    lower = root - upper
    return a - upper * upper - (upper + upper) * lower - lower * lower


def _remainder(a: Array, b: Array, quotient: Array) -> Array:
    """`a - b * quotient` without rounding, for the two float32 quotients around `a / b`.

    The factors are split into halves of 12 bits (Dekker, 1971). Products of halves are exact, so
    fusing them into the subtractions is harmless.
    """
    upper_b, upper_quotient = _upper_half(b), _upper_half(quotient)
    lower_b, lower_quotient = b - upper_b, quotient - upper_quotient
    return (
        a
        - upper_quotient * upper_b
        - upper_quotient * lower_b
        - lower_quotient * upper_b
        - lower_quotient * lower_b
    )


def _upper_half(value: Array) -> Array:
    """The value with the lower 12 of its 24 significant bits set to zero."""
    bits = lax.bitcast_convert_type(value, jnp.uint32)
    return lax.bitcast_convert_type(bits & jnp.uint32(0xFFFFF000), jnp.float32)
