"""Images against legality: positions are not published in the mode topdown,
so they are read from the discs.

The player is drawn last, so its disc is whole and its centre known. Every projectile,
and the first indicator, is a disc of its own colour as far as nothing covers it. Every
other pixel is the background's.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxdodge.parity.findings import Findings
from jaxdodge.recordings.session import Session
from jaxdodge.render.topdown import ARENA_SIDE, Discs, paint

NOWHERE = 1024
"""Pixels; a disc there is not in any image."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """What an image shows; columns and rows of centres."""

    player: np.ndarray
    """int (2,)."""
    projectiles: np.ndarray
    """int (n, 2): every centre whose disc fits; one projectile may fit several."""
    fewest: int
    """At least so many projectiles are seen."""


class Palette:
    """Colours and shapes of the discs in images of one size, as the simulator paints them."""

    def __init__(self, session: Session) -> None:
        config = session.config
        self.size = np.array([config.image_obs_width, config.image_obs_height])
        self.metres = ARENA_SIDE / self.size.astype(float)
        """Metres per pixel, across and down."""
        images = []
        for shown in range(4):
            centres = np.full((3, 2, 1), NOWHERE, np.int16)
            centres[shown:][:1] = (self.size // 2)[:, None]
            discs = Discs(*(jnp.asarray(centre) for centre in centres))
            width, height = self.size.tolist()
            image = paint(discs, width=width, height=height, grayscale=config.image_grayscale)
            images.append(_codes(np.asarray(image)))
        self.blank = images[3]
        self.player, self.projectile, self.thrower = map(self._disc, images[:3])

    def _disc(self, codes: np.ndarray) -> tuple[int, np.ndarray]:
        """The colour's code, and the disc's pixels (n, 2) around its centre, columns and rows."""
        # Indicators are the smallest discs, so the centre always has the colour.
        code = int(codes[tuple(self.size[::-1] // 2)])
        return code, np.argwhere(codes == code)[:, ::-1] - self.size // 2


def check_pictures(session: Session, findings: Findings) -> tuple[list[Picture | None], Palette]:
    """Read every image and compare it with the simulator's; None where there is no player."""
    palette, images = Palette(session), session.arrays["image"]
    findings.values += images.size
    pictures = [_read(response, _codes(image), palette, findings) for response, image in enumerate(images)]
    count = session.arrays["projectile_count"]
    for response, picture in enumerate(pictures):
        if picture is None:
            # The first may have been read before anything was drawn.
            findings.add(response, "image, player", "none", "always there", torn=response == 0)
        elif picture.fewest > count[response]:
            near = count[max(response - 1, 0) : response + 2]
            text, torn = f"{picture.fewest} in the image", picture.fewest <= near.max()
            findings.add(response, "projectile_count", count[response], text, torn)
    return pictures, palette


def _read(response: int, codes: np.ndarray, palette: Palette, findings: Findings) -> Picture | None:
    expected, over = palette.blank.copy(), np.zeros(codes.shape, bool)
    centres = []
    for code, disc in (palette.player, palette.projectile, palette.thrower):
        own = codes == code
        found = _centres(own, over, disc)
        if code == palette.player[0]:
            if not own.any():
                return None
            pixels = np.argwhere(own)[:, ::-1]
            found = ((pixels.min(axis=0) + pixels.max(axis=0)) // 2)[None]
        elif code == palette.thrower[0] and len(found):
            # There is one, the one that shows the most.
            pixels = found[:, None] + disc
            inside = np.all((pixels >= 0) & (pixels < palette.size), axis=-1)
            seen = own[np.where(inside, pixels[..., 1], 0), np.where(inside, pixels[..., 0], 0)] & inside
            found = found[[int(np.argmax(seen.sum(axis=1)))]]
        painted = np.zeros(codes.shape, bool)
        pixels = (found[:, None] + disc).reshape(-1, 2)
        pixels = pixels[np.all((pixels >= 0) & (pixels < palette.size), axis=1)]
        painted[pixels[:, 1], pixels[:, 0]] = True
        expected[painted & ~over] = code
        over |= painted
        centres.append((found, own))
    for row, column in np.argwhere(expected != codes)[:1]:
        text = f"image, pixel [{row}][{column}]"
        findings.add(response, text, f"colour {codes[row, column]:x}", f"{expected[row, column]:x}")
    (player, _), (projectiles, red), _ = centres
    fewest, left = 0, np.argwhere(red)[:, ::-1]
    reach = 2 * int(np.abs(palette.projectile[1]).max())
    while len(left):
        # Pixels further apart than a disc is wide are of different discs.
        fewest, left = fewest + 1, left[np.sum((left - left[0]) ** 2, axis=1) > reach**2]
    return Picture(player[0], projectiles, fewest)


def _centres(own: np.ndarray, over: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """int (n, 2): centres whose disc shows its own colour, or what covers it, or lies outside."""
    pixels = np.argwhere(own)[:, ::-1]
    reach = int(np.abs(disc).max())
    fits = np.pad(own | over, 2 * reach, constant_values=True)
    centres = np.unique((pixels[:, None] - disc).reshape(-1, 2), axis=0)
    at = centres[:, None] + disc + 2 * reach
    return centres[np.all(fits[at[..., 1], at[..., 0]], axis=1)]


def _codes(image: np.ndarray) -> np.ndarray:
    """One number for the colour of each pixel."""
    return np.sum(image.astype(np.int32) * 256 ** np.arange(image.shape[-1])[::-1], axis=-1)
