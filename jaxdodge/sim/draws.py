"""The game's uniform draws from a JAX key, cheap enough to make one for every frame of every arena."""

import jax
import jax.numpy as jnp

GOLDEN_RATIO = 0x9E3779B9


def draw_uniform(key: jax.Array, count: int) -> jax.Array:
    """`count` uniform draws in [0, 1), multiples of 2^-24 as the game's, float32 (count,).

    The words of the key, which `jax.random.split` has already made random, are hashed with the number of
    the draw. `jax.random.uniform` would run its generator again for every arena, which costs a tenfold of
    this and a third of a whole environment step.
    """
    bits = jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(GOLDEN_RATIO)
    for word in jax.random.key_data(key).astype(jnp.uint32):
        bits = _mix(bits ^ word)
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def _mix(bits: jax.Array) -> jax.Array:
    """A bijection of uint32 that flips every output bit for half of the inputs.

    Source: C. Wellons, "Prospecting for Hash Functions" (2018), lowbias32, as improved by T. Ettinger.
    """
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x21F0AAAD)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x735A2D97)
    return bits ^ (bits >> 15)
