"""Image encoders: from stacked images to features."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.render.patches import to_patches

# The first layer leaves about this many patches along the shorter side.
PATCHES_PER_SIDE = 8
SMALLEST_PATCH = 4
# Channels, kernel and stride of the layers of Mnih et al. 2015 (Nature 518).
NATURE_LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))


class PatchEncoder(nn.Module):
    """Three layers of patches that do not overlap: one matrix product each.

    The side of the first patches grows with the image, so that only the first layer's cost does. On
    a CPU, at 84 x 84, this takes less than a fifth of the time of `NatureEncoder`.

    Args:
        dtype: of the computation.
        patch_order: images come cut into the first patches, of any side. Moving the pixels takes
            longer than the first product.
    """

    dtype: Any = jnp.float32
    patch_order: bool = False

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """From images, float32 (..., height, width, channels) or in patches (..., rows, columns,
        values of a patch), to float32 (..., features).
        """
        if not self.patch_order:
            image = to_patches(image, patch_side(*image.shape[-3:-1]))
        hidden = nn.relu(nn.Dense(32, dtype=self.dtype)(image.astype(self.dtype)))
        for _ in range(2):
            hidden = nn.relu(nn.Dense(64, dtype=self.dtype)(to_patches(hidden, 2)))
        return hidden.reshape(*image.shape[:-3], -1).astype(jnp.float32)


def patch_side(height: int, width: int) -> int:
    """Side of the first patches of an image in pixels: 4 up to 32 pixels, 11 at 84, 32 at 256."""
    return max(SMALLEST_PATCH, -(-min(height, width) // PATCHES_PER_SIDE))


class NatureEncoder(nn.Module):
    """The convolutions of Mnih et al. 2015 (Nature 518), written as matrix products.

    Same values and parameters as `nn.Conv` with padding VALID. The gradients of XLA's convolutions
    take six times as long on a CPU as their values do, and those of products do not.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """float32 (..., height, width, channels) -> float32 (..., features)."""
        hidden = image.astype(self.dtype)
        for layer, (channels, kernel, stride) in enumerate(NATURE_LAYERS):
            convolution = ProductConv(channels, kernel, stride, self.dtype, name=f"Conv_{layer}")
            hidden = nn.relu(convolution(hidden))
        return hidden.reshape(*image.shape[:-3], -1).astype(jnp.float32)


class ProductConv(nn.Module):
    """A convolution without padding as a sum of matrix products.

    Blocks of stride x stride pixels become channels, which leaves a convolution of stride 1; each
    place of its kernel is one product.

    Args:
        channels: of the output.
        kernel, stride: pixels along each side; the stride divides the kernel.
        dtype: of the computation.
    """

    channels: int
    kernel: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """(..., height, width, inputs) -> (..., rows, columns, channels)."""
        *_, height, width, inputs = image.shape
        kernel, stride = self.kernel, self.stride
        shape = (kernel, kernel, inputs, self.channels)
        weights = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.channels,), jnp.float32)
        rows, columns = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        places = kernel // stride
        used = image[..., : (rows + places - 1) * stride, : (columns + places - 1) * stride, :]
        blocks = to_patches(used, stride)
        weights = weights.reshape(places, stride, places, stride, inputs, self.channels)
        weights = weights.transpose(0, 2, 1, 3, 4, 5).reshape(places, places, -1, self.channels)
        products = [
            blocks[..., row : row + rows, column : column + columns, :]
            @ weights[row, column].astype(self.dtype)
            for row in range(places)
            for column in range(places)
        ]
        return sum(products) + bias.astype(self.dtype)


def make_encoder(config: TrainConfig) -> nn.Module:
    """The image encoder of a configuration."""
    dtype = jnp.dtype(config.precision)
    return NatureEncoder(dtype) if config.encoder == "nature" else PatchEncoder(dtype, config.patch_order)
