"""The rasterizer without JAX: array operations in NumPy, compiled loops in numba.

Both take float32 players (frames, 2) and projectiles (frames, 2, slots), all in use and without a
thrower, and write uint8 (frames, height, width, channels), the same bytes as
`jaxdodge.render.topdown.draw`. Source of the rules: docs/mechanics.md.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdodge.render import topdown

# Arguments: players, projectiles, and the images to write.
Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


def _layers(width: int, grayscale: bool) -> list[tuple[int, np.ndarray]]:
    """Radius in pixels and pixel value of the projectiles, then of the player."""
    return [
        (
            int(np.float32(radius) * (np.float32(width) / np.float32(topdown.ARENA_SIDE))),
            topdown.pixel_value(colour, grayscale),
        )
        for radius, colour in (
            (topdown.PROJECTILE_RADIUS, topdown.PROJECTILE),
            (topdown.PLAYER_RADIUS, topdown.PLAYER),
        )
    ]


def numpy_raster(width: int, height: int, grayscale: bool) -> Draw:
    """Scatters all pixels of a layer's discs into copies of the background."""
    background = topdown.background(width, height, grayscale)
    side, half = np.float32(topdown.ARENA_SIDE), np.float32(topdown.ARENA_SIDE / 2)
    layers = []
    for reach, value in _layers(width, grayscale):
        offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).astype(np.int32)
        layers.append((offsets[:, (offsets**2).sum(axis=0) <= reach**2], value))

    def draw(players: np.ndarray, projectiles: np.ndarray, images: np.ndarray) -> None:
        images[:] = background
        for positions, (offsets, value) in zip((projectiles, players[..., None]), layers, strict=True):
            columns = ((positions[:, 0] + half) / side * np.float32(width)).astype(np.int32)
            rows = ((half - positions[:, 1]) / side * np.float32(height)).astype(np.int32)
            columns, rows = columns[..., None] + offsets[1], rows[..., None] + offsets[0]
            frame, disc, pixel = np.nonzero(
                (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
            )
            images[frame, rows[frame, disc, pixel], columns[frame, disc, pixel]] = value

    return draw


def numba_raster(width: int, height: int, grayscale: bool) -> Draw:
    """Compiled loops over frames, discs and pixels."""
    import numba

    background = topdown.background(width, height, grayscale)
    (near, near_value), (far, far_value) = _layers(width, grayscale)
    side, half = np.float32(topdown.ARENA_SIDE), np.float32(topdown.ARENA_SIDE / 2)
    across, down = np.float32(width), np.float32(height)

    channels = background.shape[2]
    ground = background.reshape(-1)

    @numba.njit(inline="always")
    def disc(image: Any, x: Any, y: Any, reach: Any, value: Any) -> None:
        column = int((x + half) / side * across)
        row = int((half - y) / side * down)
        for i in range(max(-reach, -row), min(reach, height - 1 - row) + 1):
            for j in range(max(-reach, -column), min(reach, width - 1 - column) + 1):
                if i * i + j * j <= reach * reach:
                    pixel = ((row + i) * width + column + j) * channels
                    for channel in range(channels):
                        image[pixel + channel] = value[channel]

    # On one core, like XLA: threads that wait for each other suffer most on a busy machine.
    @numba.njit
    def paint(players: Any, projectiles: Any, images: Any) -> None:
        for frame in range(len(players)):
            image = images[frame]
            # Compilers turn a loop over contiguous bytes into one copy.
            for pixel in range(len(ground)):
                image[pixel] = ground[pixel]
            for slot in range(projectiles.shape[2]):
                disc(image, projectiles[frame, 0, slot], projectiles[frame, 1, slot], near, near_value)
            disc(image, players[frame, 0], players[frame, 1], far, far_value)

    def draw(players: np.ndarray, projectiles: np.ndarray, images: np.ndarray) -> None:
        paint(players, projectiles, images.reshape(len(images), -1))

    return draw
