"""Images against legality: positions are not published in the mode topdown, so they are read from the discs.

The player is drawn last, so its disc is whole and its centre known. Every projectile, and the first
indicator, is a disc of its own colour as far as nothing covers it. An image painted anew, by the simulator,
from every disc that fits must be the recorded one, byte for byte.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.parity.findings import Findings
from jaxdodge.recordings.session import Session
from jaxdodge.render.topdown import Discs, Scene, locate, paint

NOWHERE = 1024
"""Pixels; a disc there is not in any image."""
IMAGES_PER_CALL = 16


@dataclasses.dataclass(frozen=True)
class Picture:
    """What an image shows; columns and rows of centres."""

    player: tuple[int, int]
    projectiles: np.ndarray
    """int (n, 2): every centre whose disc fits; one projectile may fit several."""
    fewest: int
    """At least so many projectiles are seen."""


class Palette:
    """Colours and shapes of the discs in images of one size, as the simulator paints them."""

    def __init__(self, session: Session) -> None:
        config = session.config
        self.width, self.height = config.image_obs_width, config.image_obs_height
        size = partial(paint, width=self.width, height=self.height, grayscale=config.image_grayscale)
        self._paint = jax.jit(jax.vmap(size))
        centre = (self.width // 2, self.height // 2)
        self.blank = self.paint([None], [[]], [None])[0]
        self.player = self._disc(self.paint([centre], [[]], [None])[0])
        self.projectile = self._disc(self.paint([None], [[centre]], [None])[0])
        self.thrower = self._disc(self.paint([None], [[]], [centre])[0])

    def _disc(self, image: np.ndarray) -> tuple[int, np.ndarray]:
        """The colour's code, and the pixels (n, 2) of the disc around its centre, columns and rows."""
        # Indicators are the smallest discs, so the centre always has the colour.
        code = _codes(image)[self.height // 2, self.width // 2]
        rows, columns = np.nonzero(_codes(image) == code)
        return int(code), np.stack([columns - self.width // 2, rows - self.height // 2], axis=1)

    def paint(self, players: list, projectiles: list, throwers: list) -> np.ndarray:
        """Images, uint8 (n, height, width, channels), of centres; None where there is none."""
        most = 8 * 2 ** int(np.ceil(np.log2(max([8, *map(len, projectiles)]) / 8)))

        def table(centres: list, slots: int) -> jax.Array:
            padded = np.full((len(players), 2, slots), NOWHERE, np.int16)
            for at, some in enumerate(centres):
                if some is not None and len(some):
                    some = np.reshape(some, (-1, 2))
                    padded[at, :, : len(some)] = some.T
            return jnp.asarray(padded)

        discs = Discs(table(players, 1), table(projectiles, most), table(throwers, 1))
        return np.asarray(self._paint(discs))


def check_pictures(session: Session, findings: Findings) -> tuple[list[Picture | None], Palette]:
    """Read every image, paint it anew and compare; None where the player's disc is none."""
    palette, images = Palette(session), session.arrays["image"]
    findings.values += images.size
    pictures: list[Picture | None] = []
    for first in range(0, len(images), IMAGES_PER_CALL):
        part = images[first : first + IMAGES_PER_CALL]
        read = [_read(image, palette) for image in part]
        filled = [*read, *[read[-1]] * (IMAGES_PER_CALL - len(read))]
        painted = palette.paint(
            [picture and picture.player for picture, _ in filled],
            [picture.projectiles if picture else [] for picture, _ in filled],
            [thrower for _, thrower in filled],
        )
        for at, (picture, _) in enumerate(read):
            pictures.append(picture)
            if not np.array_equal(painted[at], part[at]):
                row, column, _ = map(int, np.argwhere(painted[at] != part[at])[0])
                findings.difference(
                    first + at,
                    f"image, pixel [{row}][{column}]",
                    part[at, row, column],
                    painted[at, row, column],
                )
    count = session.arrays["projectile_count"]
    for response, picture in enumerate(pictures):
        if picture is None:
            # The first may have been read before anything was drawn.
            note = findings.difference if response else findings.torn_response
            note(response, "image, player", "none", "always there")
        elif picture.fewest > count[response]:
            near = count[max(response - 1, 0) : response + 2]
            note = findings.torn_response if picture.fewest <= near.max() else findings.difference
            note(response, "projectile_count", count[response], f"{picture.fewest} in the image")
    return pictures, palette


def _read(image: np.ndarray, palette: Palette) -> tuple[Picture | None, tuple[int, int] | None]:
    """The discs that an image shows, and the indicator's centre if it shows one."""
    codes = _codes(image)
    code, disc = palette.player
    rows, columns = np.nonzero(codes == code)
    if not len(rows):
        return None, None
    player = ((columns.min() + columns.max()) // 2, (rows.min() + rows.max()) // 2)
    over = codes == code
    code, disc = palette.projectile
    red = codes == code
    projectiles = _centres(red, over, disc)
    fewest, left = 0, np.argwhere(red)[:, ::-1]
    while len(left):
        # Pixels further apart than a disc is wide are of different discs.
        fewest, left = fewest + 1, left[_far(left, left[0], disc)]
    code, disc = palette.thrower
    orange = codes == code
    throwers = _centres(orange, over | red, disc)
    thrower = max(throwers, key=lambda at: _covered(orange, at, disc), default=None)
    return Picture((int(player[0]), int(player[1])), projectiles, fewest), thrower


def _centres(own: np.ndarray, over: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """int (n, 2): centres whose disc shows only its own colour, what is drawn over it, or lies outside."""
    pixels = np.argwhere(own)[:, ::-1]
    if not len(pixels):
        return np.zeros((0, 2), int)
    reach = int(np.abs(disc).max())
    fits = np.pad(own | over, 2 * reach, constant_values=True)
    centres = np.unique((pixels[:, None] - disc).reshape(-1, 2), axis=0)
    at = centres[:, None] + disc + 2 * reach
    return centres[np.all(fits[at[..., 1], at[..., 0]], axis=1)]


def _covered(own: np.ndarray, centre: np.ndarray, disc: np.ndarray) -> int:
    at = centre + disc
    inside = np.all((at >= 0) & (at < own.shape[::-1]), axis=1)
    return int(np.count_nonzero(own[at[inside, 1], at[inside, 0]]))


def _far(pixels: np.ndarray, pixel: np.ndarray, disc: np.ndarray) -> np.ndarray:
    reach = int(np.abs(disc).max())
    return np.sum((pixels - pixel) ** 2, axis=1) > (2 * reach) ** 2


def _codes(image: np.ndarray) -> np.ndarray:
    """One number for the colour of each pixel."""
    weights = 256 ** np.arange(image.shape[-1])
    return image.astype(np.int32) @ weights


def metres_of_pixels(palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest x of every column, and y of every row, where the player can be: (2, pixels) each."""
    along = np.linspace(-6, 6, 24_001, dtype=np.float32)
    some = Scene(
        player=jnp.stack([along, along], axis=-1),
        projectiles=jnp.zeros((len(along), 2, 1)),
        projectile_count=jnp.zeros(len(along), jnp.int32),
        thrower=jnp.zeros((len(along), 2)),
        thrower_pending=jnp.zeros(len(along), bool),
    )
    pixels = np.asarray(locate(some, width=palette.width, height=palette.height).player)[:, :, 0].T
    step = float(along[1] - along[0])
    result = []
    for of_axis, size in zip(pixels, (palette.width, palette.height), strict=True):
        low, high = np.full(size, np.inf), np.full(size, -np.inf)
        np.minimum.at(low, of_axis, along - step)
        np.maximum.at(high, of_axis, along + step)
        result.append(np.stack([low, high]))
    return result[0], result[1]
