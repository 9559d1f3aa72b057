"""Running mean and variance of what the networks see, for `normalize_observations`."""

import jax
import jax.numpy as jnp
from flax import struct

# Beyond that many standard deviations a feature says no more; it would only shake the networks.
LARGEST = 10.0


@struct.dataclass
class Statistics:
    """Of all feature vectors so far."""

    count: jax.Array
    """float32."""
    mean: jax.Array
    """float32 (features,)."""
    squares: jax.Array
    """float32 (features,): sum of squared distances from the mean."""


def no_statistics(size: int) -> Statistics:
    """Of no vectors; they normalise to themselves."""
    return Statistics(jnp.float32(0), jnp.zeros(size), jnp.zeros(size))


def include(statistics: Statistics, batch: jax.Array) -> Statistics:
    """With a batch, float32 (batch, features), included.

    Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", equation 1.5.
    """
    size, mean = batch.shape[0], batch.mean(axis=0)
    count = statistics.count + size
    apart = mean - statistics.mean
    squares = ((batch - mean) ** 2).sum(axis=0) + apart**2 * statistics.count * size / count
    return Statistics(count, statistics.mean + apart * size / count, statistics.squares + squares)


def normalize(statistics: Statistics, features: jax.Array) -> jax.Array:
    """Mean 0 and variance 1, float32 (..., features); what never varied only loses its mean."""
    variance = statistics.squares / jnp.maximum(statistics.count, 1)
    deviation = jnp.where(variance > 1e-8, jnp.sqrt(variance), 1)
    return jnp.clip((features - statistics.mean) / deviation, -LARGEST, LARGEST)
