"""Arithmetic that rounds as the game does: every float32 operation once, to
nearest, in the order written.

Compilers do not keep to that by themselves. XLA fuses a product into a following addition (one
rounding instead of two), replaces a division by a constant by a multiplication with its reciprocal,
and divides approximately on GPUs.
"""

import jax.numpy as jnp
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
