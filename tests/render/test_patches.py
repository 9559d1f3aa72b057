"""Images in patches: drawn straight into them against drawn and then cut, byte for byte."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scenes import crowded_scenes, random_scenes

from jaxdodge.agents.encoders import patch_side
from jaxdodge.render.patches import paint_patches, to_patches
from jaxdodge.render.topdown import draw, locate

# Width and height; patches of 84 and of the last four sizes reach beyond the image.
SIZES = [(256, 256), (128, 128), (84, 84), (48, 48), (32, 32), (63, 45), (101, 70), (33, 512), (33, 61)]


@partial(jax.jit, static_argnames=("width", "height", "side", "grayscale"))
def both(scenes, *, width, height, side, grayscale):
    """Of stacks of scenes, leading axes (batch, frames)."""
    size = {"width": width, "height": height}
    images = draw(scenes, **size, grayscale=grayscale)
    stacked = jnp.concatenate(list(jnp.moveaxis(images, 1, 0)), axis=-1)
    direct = paint_patches(locate(scenes, **size), side, **size, grayscale=grayscale)
    return to_patches(stacked, side), direct.reshape(*direct.shape[:3], -1)


@pytest.mark.parametrize(
    ("width", "height", "grayscale", "frames"),
    [
        pytest.param(*size, gray, frames, marks=() if normal else pytest.mark.slow)
        for size in SIZES
        for gray in (False, True)
        for frames in (1, 3)
        for normal in [size == (84, 84) or (not gray and frames == 3 and size[0] < 128)]
    ],
)
def test_patches_from_discs_are_those_of_the_drawn_images(width, height, grayscale, frames):
    scenes = random_scenes(2, (16, frames))
    side = patch_side(height, width)
    expected, direct = both(scenes, width=width, height=height, side=side, grayscale=grayscale)
    assert expected.shape[1:3] == (-(-height // side), -(-width // side))
    np.testing.assert_array_equal(direct, expected)


@settings(max_examples=200)
@given(crowded_scenes())
def test_overlapping_and_cut_discs(scene):
    """Also where the image ends within a patch: 50 pixels are 12 patches of 4 and a half."""
    stack = jax.tree.map(lambda array: jnp.asarray(array)[None, None], scene)
    expected, direct = both(stack, width=50, height=50, side=4, grayscale=False)
    np.testing.assert_array_equal(direct, expected)


def test_known_patches():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    patches = [[[0, 1, 3, 4], [2, 0, 5, 0]]]
    np.testing.assert_array_equal(to_patches(image, 2), patches)
    np.testing.assert_array_equal(to_patches(jnp.asarray(image), 2), patches)
