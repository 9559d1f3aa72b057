"""The top-down image cut into square patches, also without drawing the whole image first.

Cutting moves every pixel, which takes longer than drawing the discs, and than the product of an
encoder's first layer.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdodge.render.topdown import Discs, background, paint_discs


def to_patches(image: Any, side: int) -> Any:
    """Cut an image into patches, padded with zeros beyond its last row and column.

    Args:
        image: (..., height, width, channels), of NumPy or JAX.
        side: pixels along each side of a patch.

    Returns:
        (..., rows, columns, side * side * channels), of the same kind.
    """
    xp = np if isinstance(image, np.ndarray) else jnp
    *batch, height, width, channels = image.shape
    rows, columns = -(-height // side), -(-width // side)
    padding = ((0, rows * side - height), (0, columns * side - width), (0, 0))
    image = xp.pad(image, ((0, 0),) * len(batch) + padding)
    image = image.reshape(*batch, rows, side, columns, side, channels)
    return xp.swapaxes(image, -4, -3).reshape(*batch, rows, columns, side * side * channels)


def paint_patches(discs: Discs, side: int, *, width: int, height: int, grayscale: bool) -> Array:
    """The patches of a stack of images, without the images in between.

    Flattened over its last three axes this is `to_patches` of the image whose channels are those of
    all frames, as an encoder takes it, equal to the bit.

    Args:
        discs: of the frames of a stack, located for this width and height; leading dimensions
            (..., frames).
        side: pixels along each side of a patch.
        width, height: of an image, pixels.
        grayscale: whether an image has one channel, or three.

    Returns:
        uint8 (..., rows, columns, side * side, frames, channels).
    """
    paint_stack = partial(_paint_stack, side=side, width=width, height=height, grayscale=grayscale)
    for _ in jnp.shape(discs.player)[:-3]:
        paint_stack = jax.vmap(paint_stack)
    return paint_stack(discs)


def _paint_stack(discs: Discs, *, side: int, width: int, height: int, grayscale: bool) -> Array:
    frames = len(discs.player)
    ground = to_patches(background(width, height, grayscale), side)
    ground = ground.reshape(*ground.shape[:-1], side * side, 1, -1).repeat(frames, axis=-2)
    frame = jnp.arange(frames, dtype=jnp.int32)[:, None, None]

    def place(rows: Array, columns: Array) -> tuple[Array, ...]:
        # The last patches reach beyond the image; negative pixels have negative patches.
        rows = jnp.where((rows < height) & (columns < width), rows, -1)
        return rows // side, columns // side, rows % side * side + columns % side, frame

    return paint_discs(jnp.asarray(ground), discs, place, width=width, grayscale=grayscale)
