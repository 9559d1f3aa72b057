"""Random draws from JAX keys: the game's uniform draws, and durations."""

import jax
import jax.numpy as jnp

from jaxdodge.sim.duration import NANOSECONDS_PER_SECOND, Duration

GOLDEN_RATIO = 0x9E3779B9


def draw_uniform(key: jax.Array, count: int) -> jax.Array:
    """`count` uniform draws in [0, 1), multiples of 2^-24 as the game's, float32 (count,).

    The words of the key, which `jax.random.split` has already made random, are hashed with the
    number of the draw. `jax.random.uniform` would run its generator again for every env, which
    costs a tenfold of this and a third of a whole environment step.
    """
    bits = jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(GOLDEN_RATIO)
    for word in jax.random.key_data(key).astype(jnp.uint32):
        bits = _mix(bits ^ word)
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def _mix(bits: jax.Array) -> jax.Array:
    """A bijection of uint32 that flips every output bit for half of the inputs.

    Source: C. Wellons, "Prospecting for Hash Functions" (2018),
    lowbias32, as improved by T. Ettinger.
    """
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x21F0AAAD)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x735A2D97)
    return bits ^ (bits >> 15)


def draw_duration(key: jax.Array, duration: Duration) -> Duration:
    """A duration uniform over the whole nanoseconds below another one."""
    key_part, key_seconds, key_nanoseconds = jax.random.split(key, 3)
    whole = duration.seconds.astype(jnp.float32)
    rest = duration.nanoseconds.astype(jnp.float32) / NANOSECONDS_PER_SECOND
    in_whole = jax.random.uniform(key_part, dtype=jnp.float32) * (whole + rest) < whole
    below = jnp.where(in_whole, jnp.int32(NANOSECONDS_PER_SECOND), jnp.maximum(duration.nanoseconds, 1))
    return Duration(
        jnp.where(in_whole, _uniform_below(key_seconds, duration.seconds), duration.seconds),
        _uniform_below(key_nanoseconds, below),
    )


def _uniform_below(key: jax.Array, limit: jax.Array) -> jax.Array:
    """An int32 from 0 to limit - 1; `jax.random.randint` is biased for large limits."""
    key_high, key_low = jax.random.split(key)
    low_limit = jnp.clip(limit, 1, 2**15)
    most = jnp.maximum((limit + low_limit - 1) // low_limit, 1)
    high = jax.random.randint(key_high, (), 0, most, jnp.int32)
    value = high * low_limit + jax.random.randint(key_low, (), 0, low_limit, jnp.int32)
    # The last of the blocks may reach beyond the limit, at most by one in 30
    # 000 of a second's nanoseconds.
    return jnp.where(value < limit, value, value % jnp.maximum(limit, 1))
