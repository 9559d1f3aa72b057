"""The networks of soft actor-critic: actor, critics, and input normalization.

Actor and critics take features. Those of a vector observation are float32 (..., features). Those of
an image are a dictionary of `image`, float32 (..., features), and `previous_action` where the game
shows it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxdodge.agents.encoders import make_encoder
from jaxdodge.agents.train_config import TrainConfig

LOG_STD_RANGE = (-5.0, 2.0)
NUM_CRITICS = 2
# Width of the projection of an image in DrQ (Kostrikov et al. 2020, arXiv 2004.13649, appendix B).
LATENT_SIZE = 50
# Normalized features are clipped to this many standard deviations: outliers destabilize training.
MAX_DEVIATIONS = 10.0
# Batches that the running statistics remember.
LONGEST_MEMORY = 2.0**20

Params = Any


@dataclasses.dataclass(frozen=True)
class SACNetworks:
    """The Flax modules of one agent, without parameters."""

    encoder: Any
    actor: Any
    critics: Any

    def encode(self, encoder_params: Params, statistics: "Statistics | None", observation: Any) -> Any:
        """The features of an observation.

        Args:
            encoder_params: of the image encoder.
            statistics: that vectors are normalized by; None to take them as they are.
            observation: float32 (..., features), or a dictionary with `image`, float32
                (..., height, width, channels).
        """
        if isinstance(observation, dict):
            return observation | {"image": self.encoder.apply(encoder_params, observation["image"])}
        return observation if statistics is None else normalize(statistics, observation)


def make_networks(config: TrainConfig, action_size: int) -> SACNetworks:
    """The networks of a configuration, for actions of `action_size` components."""
    dtype = jnp.dtype(config.precision)
    return SACNetworks(
        encoder=make_encoder(config),
        actor=Actor(config.net_arch, action_size, dtype),
        critics=critic_ensemble(config.net_arch, dtype),
    )


def _flat(features: Any, dtype: Any) -> jax.Array:
    """Features as one vector: of an image a narrow bounded projection, then the previous action."""
    if not isinstance(features, dict):
        return features
    image = nn.tanh(nn.LayerNorm(dtype=dtype)(nn.Dense(LATENT_SIZE, dtype=dtype)(features["image"])))
    return jnp.concatenate([image, features["previous_action"]], axis=-1) if len(features) > 1 else image


class Actor(nn.Module):
    """Mean and log standard deviation of a Gaussian; the action is the tanh of a sample."""

    net_arch: Sequence[int]
    action_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Any) -> tuple[jax.Array, jax.Array]:
        """Features -> mean and log_std, each float32 (..., action_size)."""
        hidden = _flat(features, self.dtype)
        for width in self.net_arch:
            hidden = nn.relu(nn.Dense(width, dtype=self.dtype)(hidden))
        return gaussian(nn.Dense(2 * self.action_size, dtype=self.dtype)(hidden).astype(jnp.float32))


def gaussian(output: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log std from the last layer of an actor, float32 (..., 2 * action_size)."""
    mean, log_std = jnp.split(output, 2, axis=-1)
    low, high = LOG_STD_RANGE
    return mean, low + (high - low) * nn.sigmoid(log_std)


class Critic(nn.Module):
    """Value of an action. Layer norm bounds the values of actions that are not in the data."""

    net_arch: Sequence[int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Any, action: jax.Array) -> jax.Array:
        """Features, float32 (..., action_size) -> float32 (...)."""
        hidden = jnp.concatenate([_flat(features, self.dtype), action], axis=-1)
        for width in self.net_arch:
            dense = nn.Dense(width, dtype=self.dtype)
            hidden = nn.relu(nn.LayerNorm(dtype=self.dtype)(dense(hidden)))
        return nn.Dense(1, dtype=self.dtype)(hidden)[..., 0].astype(jnp.float32)


def critic_ensemble(net_arch: Sequence[int], dtype: Any = jnp.float32) -> nn.Module:
    """Critics with separate parameters for the same inputs: returns float32 (NUM_CRITICS, ...)."""
    return nn.vmap(
        Critic,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,
        out_axes=0,
        axis_size=NUM_CRITICS,
    )(net_arch, dtype)


def sample_action(key: jax.Array, mean: jax.Array, log_std: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sample the tanh of a Gaussian.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), appendix C, equation 26. The numerically stable
    form of log(1 - tanh^2) is from github.com/openai/spinningup.

    Args:
        key: random key.
        mean, log_std: float32 (..., action_size).

    Returns:
        The action in [-1, 1], float32 (..., action_size), and its log_prob, float32 (...).
    """
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    raw = mean + jnp.exp(log_std) * noise
    log_prob = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_slope = 2 * (jnp.log(2.0) - raw - nn.softplus(-2 * raw))
    return jnp.tanh(raw), jnp.sum(log_prob - log_slope, axis=-1)


class Statistics(struct.PyTreeNode):
    """Running mean and variance of feature vectors, for `normalize_observations`."""

    count: jax.Array
    """float32."""
    mean: jax.Array
    """float32 (features,)."""
    squares: jax.Array
    """float32 (features,): sum of squared distances from the mean."""


def init_statistics(size: int) -> Statistics:
    """Statistics of no vectors, which normalize nothing."""
    return Statistics(jnp.float32(0), jnp.zeros(size, jnp.float32), jnp.zeros(size, jnp.float32))


def update_statistics(statistics: Statistics, batch: jax.Array) -> Statistics:
    """Include a batch, float32 (batch, features).

    The count ends at LONGEST_MEMORY batches, and older ones are forgotten: float32 cannot count on,
    and the statistics would stand still.

    Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance",
    equation 1.5.
    """
    size, mean = batch.shape[0], batch.mean(axis=0)
    count = statistics.count + size
    delta = mean - statistics.mean
    squares = ((batch - mean) ** 2).sum(axis=0) + delta**2 * statistics.count * size / count
    kept = jnp.minimum(LONGEST_MEMORY * size / count, 1)
    total = statistics.squares + squares
    return Statistics(count * kept, statistics.mean + delta * size / count, total * kept)


def normalize(statistics: Statistics, features: jax.Array) -> jax.Array:
    """Scale float32 (..., features) to mean 0, variance 1; constants only lose their mean."""
    variance = statistics.squares / jnp.maximum(statistics.count, 1)
    deviation = jnp.where(variance > 1e-8, jnp.sqrt(variance), 1)
    return jnp.clip((features - statistics.mean) / deviation, -MAX_DEVIATIONS, MAX_DEVIATIONS)
