"""Averaged images: from the discs alone against the average of the drawn image, byte for byte."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from scenes import crowded_scenes, random_scenes

from jaxdodge.render.average import average, paint_average
from jaxdodge.render.topdown import draw, locate

# Width, height, side of the blocks; the originals' sizes first.
SIZES = [(256, 256, 8), (84, 84, 3), (128, 96, 4), (64, 64, 2), (48, 48, 16), (36, 60, 6)]


@partial(jax.jit, static_argnames=("width", "height", "side", "grayscale"))
def both(scenes, *, width, height, side, grayscale):
    size = {"width": width, "height": height}
    drawn = draw(scenes, **size, grayscale=grayscale)
    direct = paint_average(locate(scenes, **size), side, **size, grayscale=grayscale)
    return average(drawn, side), direct


@pytest.mark.parametrize(
    ("width", "height", "side", "grayscale"),
    [
        pytest.param(*size, gray, marks=pytest.mark.slow if gray and size[0] != 84 else ())
        for size in SIZES
        for gray in (False, True)
    ],
)
def test_the_average_from_discs_is_that_of_the_drawn_image(width, height, side, grayscale):
    scenes = random_scenes(1, (64,))
    expected, direct = both(scenes, width=width, height=height, side=side, grayscale=grayscale)
    assert direct.shape == (64, height // side, width // side, 1 if grayscale else 3)
    np.testing.assert_array_equal(direct, expected)


@settings(max_examples=200)
@given(crowded_scenes())
def test_overlapping_and_cut_discs(scene):
    expected, direct = both(scene, width=96, height=96, side=4, grayscale=False)
    np.testing.assert_array_equal(direct, expected)


def test_known_averages():
    image = np.zeros((4, 4, 1), np.uint8)
    image[:2, :2, 0] = [[1, 0], [0, 1]]  # 0.5, rounded up
    image[2:, 2:, 0] = [[255, 255], [255, 254]]
    np.testing.assert_array_equal(average(image, 2)[..., 0], [[1, 0], [0, 255]])
