"""Image encoders: sizes, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.encoders import NATURE_LAYERS, NatureEncoder, PatchEncoder

KEY = jax.random.key(0)


class Convolutions(nn.Module):
    """The network of Mnih et al. 2015 as Flax writes it."""

    @nn.compact
    def __call__(self, image):
        hidden = image.astype(jnp.float32)
        for channels, kernel, stride in NATURE_LAYERS:
            convolution = nn.Conv(channels, (kernel, kernel), (stride, stride), padding="VALID")
            hidden = nn.relu(convolution(hidden))
        return hidden.reshape(*image.shape[:-3], -1)


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("encoder", "height", "width", "features"),
    [
        # 84 -> 20 -> 9 -> 7, 64 -> 15 -> 6 -> 4 and 36 -> 8 -> 3 -> 1, 64 channels.
        (NatureEncoder(), 84, 84, 7 * 7 * 64),
        (NatureEncoder(), 84, 64, 7 * 4 * 64),
        (NatureEncoder(), 36, 36, 64),
        # First patches of 32, 16, 11, 8, 5 and 4 pixels, the last ones beyond the edge: 256 -> 8 ->
        # 4 -> 2 (also 128, 84, 63), 48 -> 10 -> 5 -> 3, 40 -> 8, 28 -> 7 -> 4 -> 2, 84 -> 21 -> 11
        # -> 6.
        (PatchEncoder(), 256, 256, 2 * 2 * 64),
        (PatchEncoder(), 128, 128, 2 * 2 * 64),
        (PatchEncoder(), 84, 84, 2 * 2 * 64),
        (PatchEncoder(), 63, 63, 2 * 2 * 64),
        (PatchEncoder(), 48, 40, 3 * 2 * 64),
        (PatchEncoder(), 28, 28, 2 * 2 * 64),
        (PatchEncoder(), 84, 32, 6 * 2 * 64),
    ],
)
def test_images_of_every_size(encoder, height, width, features):
    image = jax.ShapeDtypeStruct((height, width, 4), jnp.float32)
    params = jax.eval_shape(encoder.init, KEY, image)
    for batch in ((), (2, 3)):
        images = jax.ShapeDtypeStruct((*batch, *image.shape), jnp.float32)
        encoded = jax.eval_shape(encoder.apply, params, images)
        assert encoded.shape == (*batch, features)
        assert encoded.dtype == jnp.float32


@pytest.mark.parametrize(("height", "width"), [(84, 84), (45, 70)])
def test_matrix_products_are_the_convolutions_of_flax(height, width):
    images = random_images(3, height, width, 4)
    products, convolutions = NatureEncoder(), Convolutions()
    params = jax.jit(products.init)(KEY, images[:1])
    expected = jax.jit(convolutions.init)(KEY, images[:1])
    jax.tree.map(np.testing.assert_array_equal, params, expected)

    def outcome(module):
        def loss(params):
            return (module.apply(params, images) ** 2).sum()

        return jax.jit(jax.value_and_grad(loss))(params)

    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3),
        outcome(products),
        outcome(convolutions),
    )


@pytest.mark.parametrize(("size", "first"), [(32, 4), (84, 11)])
def test_patches_are_convolutions_that_do_not_overlap(size, first):
    images = random_images(2, size, size, 2)
    encoder = PatchEncoder()
    params = jax.jit(encoder.init)(KEY, images[0])
    hidden = images.astype(np.float32)
    for layer, stride in enumerate((first, 2, 2)):
        beyond = -hidden.shape[1] % stride
        hidden = np.pad(hidden, ((0, 0), (0, beyond), (0, beyond), (0, 0)))
        weights = params["params"][f"Dense_{layer}"]
        kernel = weights["kernel"].reshape(stride, stride, -1, weights["kernel"].shape[-1])
        hidden = jax.lax.conv_general_dilated(
            hidden, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        hidden = np.maximum(hidden + weights["bias"], 0)
    np.testing.assert_allclose(jax.jit(encoder.apply)(params, images), hidden.reshape(2, -1), atol=1e-5)


def test_no_pixel_is_lost():
    image = random_images(45, 37, 1)
    encoder = PatchEncoder()
    params = jax.jit(encoder.init)(KEY, image)
    images = np.stack([image, image])
    images[1, -1, -1] = 255 - image[-1, -1]
    encoded = jax.jit(encoder.apply)(params, images)
    assert (encoded[0] != encoded[1]).any()
