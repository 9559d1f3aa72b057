"""The game's top-down image, byte for byte (specification: the top-down image).

Few pixels of an image ever differ from its background: at 84 x 84 a scene with twelve
projectiles touches 66 of 7056. So the background is a constant, and each layer of discs is one
scatter of its colour into a copy.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdodge import exact

ARENA_SIDE = 24.0  # metres, centred on the origin
SMALLEST_SIDE, LARGEST_SIDE = 32, 512  # pixels

PLAYER_RADIUS, PROJECTILE_RADIUS, THROWER_RADIUS = 0.5, 0.3, 0.2  # metres

BACKGROUND = (30, 30, 40)
OUTLINE = (200, 200, 50)
THROWER = (255, 140, 0)
PROJECTILE = (255, 50, 50)
PLAYER = (50, 150, 255)

_FAR_AWAY = 1024  # pixels; twice the largest image, so no disc around it reaches the image


class Scene(NamedTuple):
    """Everything an image is drawn from. All fields may have leading batch dimensions `...`."""

    player: Array  # float32 [..., 2]: x, y in metres
    projectiles: Array  # float32 [..., 2, slots]: a row of x and a row of y, in metres
    projectile_count: Array  # int32 [...]: slots at and beyond the count are not drawn
    thrower: Array  # float32 [..., 2]: x, y in metres of the first pending thrower indicator
    thrower_pending: Array  # bool [...]: whether there is one to draw


class Discs(NamedTuple):
    """Where the discs of an image of one size are: all that the image depends on, in a few bytes.

    int16 columns and rows of their centres, `_FAR_AWAY` where there is no disc. All fields may have
    the same leading batch dimensions `...`.
    """

    player: Array  # int16 [..., 2, 1]: a row of columns and a row of rows
    projectiles: Array  # int16 [..., 2, slots]
    thrower: Array  # int16 [..., 2, 1]


def draw(scene: Scene, *, width: int, height: int, grayscale: bool) -> Array:
    """Draws scenes as the game does (specification: the top-down image).

    width, height: pixels, each from 32 to 512, else ValueError. Positions may lie anywhere, also
    outside the arena, but must not be NaN. Returns uint8 [..., height, width, channels] with one
    channel if `grayscale`, else three (red, green, blue), where `...` are the leading dimensions of
    the scene. Row 0 is the far side (largest y).
    """
    return paint(locate(scene, width=width, height=height), width=width, height=height, grayscale=grayscale)


def locate(scene: Scene, *, width: int, height: int) -> Discs:
    """The discs of scenes in images of a size; see `draw` for sizes and positions."""
    for name, value in (("width", width), ("height", height)):
        if not isinstance(value, int | np.integer) or not SMALLEST_SIDE <= value <= LARGEST_SIDE:
            raise ValueError(
                f"{name} must be an integer from {SMALLEST_SIDE} to {LARGEST_SIDE}, got {value!r}"
            )
    batch = jnp.shape(scene.player)[:-1]
    chex.assert_shape(scene.player, (*batch, 2))
    chex.assert_shape(scene.projectiles, (*batch, 2, None))

    def centres(positions: Array, visible: Any) -> Array:
        pixels = _image_position(positions[..., 0, :], positions[..., 1, :], width, height, exact.divide)
        # Where the conversion of larger numbers ends depends on the platform.
        column, row = (jnp.clip(pixel, -_FAR_AWAY, _FAR_AWAY).astype(jnp.int16) for pixel in pixels)
        return jnp.stack([jnp.where(visible, axis, jnp.int16(_FAR_AWAY)) for axis in (column, row)], axis=-2)

    slots = jnp.arange(scene.projectiles.shape[-1], dtype=jnp.int32)
    return Discs(
        player=centres(scene.player[..., None], True),
        projectiles=centres(scene.projectiles, slots < jnp.asarray(scene.projectile_count)[..., None]),
        thrower=centres(scene.thrower[..., None], jnp.asarray(scene.thrower_pending)[..., None]),
    )


def paint(discs: Discs, *, width: int, height: int, grayscale: bool) -> Array:
    """The images of discs that were located for this width and height; returns as `draw`."""
    paint_one = partial(_paint_one, width=int(width), height=int(height), grayscale=bool(grayscale))
    for _ in jnp.shape(discs.player)[:-2]:
        paint_one = jax.vmap(paint_one)
    return paint_one(discs)


def _paint_one(discs: Discs, *, width: int, height: int, grayscale: bool) -> Array:
    image = jnp.asarray(background(width, height, grayscale))
    return paint_discs(image, discs, lambda *pixels: pixels, width=width, grayscale=grayscale)


def paint_discs(
    image: Array,
    discs: Discs,
    place: Callable[[Array, Array], tuple[Array, ...]],
    *,
    width: int,
    grayscale: bool,
) -> Array:
    """Paint discs onto an image, in any order of its pixels.

    Args:
        image: uint8 with any axes of pixels, then (channels,): the background.
        discs: located for `width`, with any leading axes; all are painted onto the one image.
        place: from rows and columns of pixels, int32 (leading axes, discs, pixels), to an index
            into each axis of `image` but the last. What lies beyond the image is not painted.
        width: of the image, pixels.
        grayscale: whether it has one channel.
    """
    for centres, radius, colour in layers(discs):
        rows, columns = disc_pixels(centres, radius, width)
        # Discs of a layer overlap, but in one colour: the order in which a
        # scatter writes does not matter.
        image = image.at[place(rows, columns)].set(
            pixel_value(colour, grayscale), mode="drop", wrap_negative_indices=False
        )
    return image


def layers(discs: Discs) -> tuple[tuple[Array, float, tuple[int, int, int]], ...]:
    """Centres, radius in metres and colour of the discs, in the order in which they are drawn."""
    return (
        (discs.thrower, THROWER_RADIUS, THROWER),
        (discs.projectiles, PROJECTILE_RADIUS, PROJECTILE),
        (discs.player, PLAYER_RADIUS, PLAYER),
    )


def disc_pixels(centres: Array, radius: float, width: int) -> tuple[Array, Array]:
    """Rows and columns of all pixels of discs, also of those beyond the image.

    Args:
        centres: int16 (..., 2, discs), as in `Discs`.
        radius: in metres.
        width: of the image, pixels.

    Returns:
        Twice int32 (..., discs, pixels).
    """
    row_offsets, column_offsets = disc_offsets(radius, width)
    columns, rows = jnp.moveaxis(centres.astype(jnp.int32), -2, 0)[..., None]
    return rows + row_offsets, columns + column_offsets


def disc_offsets(radius: float, width: int) -> np.ndarray:
    """Rows and columns of a disc's pixels from its centre, int32 [2, pixels]; radius in metres."""
    # The width alone sets the scale, also of the rows.
    reach = int(np.float32(radius) * (np.float32(width) / np.float32(ARENA_SIDE)))
    offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).astype(np.int32)
    return offsets[:, (offsets**2).sum(axis=0) <= reach**2]


def _image_position(
    x: Any, y: Any, width: int, height: int, divide: Callable[[Any, Any], Any]
) -> tuple[Any, Any]:
    """Column and row before truncation toward zero, float32, of positions in metres.

    `divide` is NumPy's or JAX's division, for arrays of the same kind.
    """
    side, half = np.float32(ARENA_SIDE), np.float32(ARENA_SIDE / 2)
    return divide(x + half, side) * np.float32(width), divide(half - y, side) * np.float32(height)


def background(width: int, height: int, grayscale: bool) -> np.ndarray:
    """Ground and outline of the play zone in every image, uint8 [height, width, channels]."""
    image = np.empty((height, width, 1 if grayscale else 3), np.uint8)
    image[:] = pixel_value(BACKGROUND, grayscale)
    # A dot every 0.1 m, so the outline has gaps in large images.
    along_x = np.arange(-50, 51, dtype=np.float32) * np.float32(0.1)
    along_y = np.arange(-40, 41, dtype=np.float32) * np.float32(0.1)
    for x, y in ((along_x, -4), (along_x, 4), (-5, along_y), (5, along_y)):
        columns, rows = _image_position(np.float32(x), np.float32(y), width, height, np.divide)
        image[rows.astype(np.int32), columns.astype(np.int32)] = pixel_value(OUTLINE, grayscale)
    return image


def pixel_value(colour: tuple[int, int, int], grayscale: bool) -> np.ndarray:
    """The colour as uint8 [channels]."""
    red, green, blue = colour
    return np.array([int(0.299 * red + 0.587 * green + 0.114 * blue)] if grayscale else colour, np.uint8)
