"""Images against legality: positions are not published in the mode topdown,
so they are read from the discs.

The player is drawn last, so its disc is whole and its centre known. Every projectile,
and the first indicator, is a disc of its own colour as far as nothing covers it. Every
other pixel is the background's.
"""

import dataclasses

import numpy as np

from jaxdodge.parity.findings import Findings
from jaxdodge.recordings.session import Session
from jaxdodge.render import topdown

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
        width, height = session.config.image_obs_width, session.config.image_obs_height
        gray = session.config.image_grayscale
        self.size = np.array([width, height])
        self.metres = topdown.ARENA_SIDE / self.size.astype(float)
        """Metres per pixel, across and down."""
        self.blank = _codes(topdown.background(width, height, gray))
        self.discs = [
            (int(_codes(topdown.pixel_value(colour, gray))), topdown.disc_offsets(radius, width)[::-1].T)
            for colour, radius in (
                (topdown.PLAYER, topdown.PLAYER_RADIUS),
                (topdown.PROJECTILE, topdown.PROJECTILE_RADIUS),
                (topdown.THROWER, topdown.THROWER_RADIUS),
            )
        ]
        """From the uppermost, the colour's code and the pixels (n, 2) around the centre, as columns
        and rows."""


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
    centres, fewest = [], []
    for code, disc in palette.discs:
        own = codes == code
        found = _centres(own, over, disc)
        pixels = (found[:, None] + disc).reshape(-1, 2)
        pixels = pixels[np.all((pixels >= 0) & (pixels < palette.size), axis=1)]
        painted = np.zeros(codes.shape, bool)
        painted[pixels[:, 1], pixels[:, 0]] = True
        expected[painted & ~over] = code
        over |= painted
        centres.append(found)
        fewest.append(_fewest(own, disc))
    for row, column in np.argwhere(expected != codes)[:1]:
        text = f"image, pixel [{row}][{column}]"
        findings.add(response, text, f"colour {codes[row, column]:x}", f"{expected[row, column]:x}")
    if fewest[2] > 1:
        findings.add(response, "image, indicators", fewest[2], "one at most")
    players, projectiles, _ = centres
    return Picture(players[0], projectiles, fewest[1]) if len(players) == 1 else None


def _centres(own: np.ndarray, over: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """int (n, 2): centres whose disc shows its own colour, or what covers it, or lies outside."""
    pixels = np.argwhere(own)[:, ::-1]
    reach = int(np.abs(disc).max())
    fits = np.pad(own | over, 2 * reach, constant_values=True)
    centres = np.unique((pixels[:, None] - disc).reshape(-1, 2), axis=0)
    at = centres[:, None] + disc + 2 * reach
    return centres[np.all(fits[at[..., 1], at[..., 0]], axis=1)]


def _fewest(own: np.ndarray, disc: np.ndarray) -> int:
    """So many discs at least: pixels further apart than one is wide are of different ones."""
    count, left, width = 0, np.argwhere(own), 2 * int(np.abs(disc).max())
    while len(left):
        count, left = count + 1, left[np.sum((left - left[0]) ** 2, axis=1) > width**2]
    return count


def _codes(image: np.ndarray) -> np.ndarray:
    """One number for the colour of each pixel."""
    return np.sum(image.astype(np.int32) * 256 ** np.arange(image.shape[-1])[::-1], axis=-1)
