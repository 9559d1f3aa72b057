"""Random shifts of images. What batches hold is tested in `test_collecting.py`."""

import jax
import numpy as np
import pytest

from jaxdodge.agents.observations import random_shift, shift_pixels

KEY = jax.random.key(0)


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("size", "pixels"), [((84, 84), 4), ((512, 512), 4), ((64, 64), 3), ((32, 32), 2), ((32, 512), 2)]
)
def test_reach_of_a_shift_grows_with_the_image(size, pixels):
    assert shift_pixels(*size) == pixels


def shift_of(shifted: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """By how many rows and columns an image was moved within its repeated
    edge; there must be one answer.
    """
    height, width, _ = image.shape
    reach = shift_pixels(height, width)
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    span = range(2 * reach + 1)
    (found,) = [
        (down - reach, right - reach)
        for down in span
        for right in span
        if (padded[down : down + height, right : right + width] == shifted).all()
    ]
    return found


@pytest.mark.parametrize("size", [(84, 84), (32, 40)])
def test_all_frames_of_a_stack_move_by_the_same_few_pixels(size):
    images = random_images(300, *size, 4)
    shifted = np.asarray(jax.jit(random_shift)(KEY, images))
    assert shifted.dtype == np.uint8
    shifts = [shift_of(new, old) for new, old in zip(shifted, images, strict=True)]
    # Every image for itself, every shift within reach, and both axes independent.
    reach = shift_pixels(*size)
    for axis in zip(*shifts, strict=True):
        assert set(axis) == set(range(-reach, reach + 1))
    assert len(set(shifts)) > 0.8 * (2 * reach + 1) ** 2


def test_an_image_of_one_colour_stays_as_it_is():
    images = np.repeat(random_images(50, 1, 1, 3), 32, axis=1).repeat(32, axis=2)
    np.testing.assert_array_equal(random_shift(KEY, images), images)
