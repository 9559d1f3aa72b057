"""Networks: the encoder of images, the actor and the ensemble of critics.

Actor and critics take what an encoder gives: float32 (..., features) of a vector observation, or of an image
a dictionary of `image`, float32 (..., features), and `previous_action` where the game shows it.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

LOG_STD_RANGE = (-5.0, 2.0)
CRITICS = 2
# DrQ's width of the projection of an image (Kostrikov et al. 2020, arXiv 2004.13649, appendix B).
LATENT_SIZE = 50
# Nature's encoder needs that many pixels along each side to be worth its strides.
NATURE_SMALLEST_SIDE = 64


class ImageEncoder(nn.Module):
    """What the networks see of stacked images.

    From 64 pixels on the convolutions of Mnih et al. 2015 (Nature 518). Smaller images are cut into patches
    that do not overlap, and those again, which costs a fourth of overlapping ones on a CPU.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """uint8 (..., height, width, channels) -> float32 (..., features)."""
        hidden = image.astype(self.dtype) / 255
        if min(image.shape[-3:-1]) >= NATURE_SMALLEST_SIDE:
            for channels, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
                convolution = nn.Conv(
                    channels, (kernel, kernel), (stride, stride), padding="VALID", dtype=self.dtype
                )
                hidden = nn.relu(convolution(hidden))
        else:
            for channels, side in ((32, 4), (64, 2), (64, 2)):
                hidden = nn.relu(nn.Dense(channels, dtype=self.dtype)(_patches(hidden, side)))
        return hidden.reshape(*image.shape[:-3], -1).astype(jnp.float32)


def _patches(image: jax.Array, side: int) -> jax.Array:
    """(..., height, width, channels) -> (..., rows, columns, side * side * channels); beyond the edge 0."""
    *batch, height, width, channels = image.shape
    rows, columns = -(-height // side), -(-width // side)
    beyond = ((0, rows * side - height), (0, columns * side - width), (0, 0))
    image = jnp.pad(image, ((0, 0),) * len(batch) + beyond)
    image = image.reshape(*batch, rows, side, columns, side, channels)
    return jnp.swapaxes(image, -4, -3).reshape(*batch, rows, columns, side * side * channels)


def _joined(inputs: Any, dtype: Any) -> jax.Array:
    """One vector: of an image a narrow bounded projection, and the previous action."""
    if not isinstance(inputs, dict):
        return inputs
    image = nn.tanh(nn.LayerNorm(dtype=dtype)(nn.Dense(LATENT_SIZE, dtype=dtype)(inputs["image"])))
    return jnp.concatenate([image, inputs["previous_action"]], axis=-1) if len(inputs) > 1 else image


class Actor(nn.Module):
    """Mean and logarithm of the standard deviation of a Gaussian, whose tanh is the action."""

    net_arch: Sequence[int]
    action_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Any) -> tuple[jax.Array, jax.Array]:
        """What the encoder gives -> two of float32 (..., action_size)."""
        hidden = _joined(inputs, self.dtype)
        for width in self.net_arch:
            hidden = nn.relu(nn.Dense(width, dtype=self.dtype)(hidden))
        output = nn.Dense(2 * self.action_size, dtype=self.dtype)(hidden).astype(jnp.float32)
        mean, log_std = jnp.split(output, 2, axis=-1)
        low, high = LOG_STD_RANGE
        return mean, low + (high - low) * nn.sigmoid(log_std)


class Critic(nn.Module):
    """Value of an action; layer norm keeps it from growing without bound off the data."""

    net_arch: Sequence[int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Any, action: jax.Array) -> jax.Array:
        """What the encoder gives, float32 (..., action_size) -> float32 (...)."""
        hidden = jnp.concatenate([_joined(inputs, self.dtype), action], axis=-1)
        for width in self.net_arch:
            dense = nn.Dense(width, dtype=self.dtype)
            hidden = nn.relu(nn.LayerNorm(dtype=self.dtype)(dense(hidden)))
        return nn.Dense(1, dtype=self.dtype)(hidden)[..., 0].astype(jnp.float32)


def critic_ensemble(net_arch: Sequence[int], dtype: Any = jnp.float32) -> nn.Module:
    """Critics with parameters of their own for the same inputs: returns float32 (CRITICS, ...)."""
    return nn.vmap(
        Critic,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,
        out_axes=0,
        axis_size=CRITICS,
    )(net_arch, dtype)


def sample_action(key: jax.Array, mean: jax.Array, log_std: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An action in [-1, 1] and the logarithm of its density.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), appendix C, equation 26; the form of log(1 - tanh^2) that
    does not lose precision is from github.com/openai/spinningup.

    Args:
        key: random key.
        mean, log_std: float32 (..., action_size).

    Returns:
        float32 (..., action_size) and float32 (...).
    """
    noise = jax.random.normal(key, mean.shape)
    raw = mean + jnp.exp(log_std) * noise
    log_density = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_slope = 2 * (jnp.log(2.0) - raw - nn.softplus(-2 * raw))
    return jnp.tanh(raw), jnp.sum(log_density - log_slope, axis=-1)


def shift_pixels(height: int, width: int) -> int:
    """How far `random_shift` moves images of a size: 4 pixels at 84, in proportion below, at least 1."""
    return max(1, min(4, round(4 * min(height, width) / 84)))


def random_shift(key: jax.Array, images: jax.Array) -> jax.Array:
    """Each image moved by a few pixels, its edge repeated; all frames of a stack by the same.

    Source: Kostrikov et al. 2020 (DrQ, arXiv 2004.13649), section 3.

    Args:
        key: random key.
        images: uint8 (batch, height, width, channels).
    """
    batch, height, width, _ = images.shape
    reach = shift_pixels(height, width)
    shifts = jax.random.randint(key, (2, batch, 1), -reach, reach + 1)
    rows = jnp.clip(jnp.arange(height) + shifts[0], 0, height - 1)
    columns = jnp.clip(jnp.arange(width) + shifts[1], 0, width - 1)
    return jax.vmap(lambda image, row, column: image[row][:, column])(images, rows, columns)
