"""Images as the encoder takes them: averaged down, cut into patches, without their background.

With averages, a policy for the full images of a server costs what one for small images
costs. Their grey values keep the position of a disc to a fraction of a pixel, which drawing
at the small size loses. Patches are drawn as such, because cutting moves every pixel.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxdodge.agents.encoders import patch_side
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.render.average import average, paint_average
from jaxdodge.render.patches import paint_patches, to_patches
from jaxdodge.render.topdown import background
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.state import State

# Typical difference of a disc from the background, so that features are about 1.
GREY_LEVELS = 64.0
# Of an averaged image: patches of 7 pixels at 28 x 28, of 8 at 32 x 32.
AVERAGED_PATCHES_PER_SIDE = 4


class SquintEnv(DodgeEnv):
    """`DodgeEnv` whose images are averaged over blocks of pixels, without drawing them in full.

    `image_features` of its observations are those of the drawn images, equal to
    the bit. Its stored frames are the averaged images: making them anew for each batch
    would be most of its cost.

    Source: Almuzairee and Christensen 2026, "Squint" (arXiv 2602.21203).

    Args:
        squint: pixels along each side of a block, a divisor of the image's sides.
        patch_order: cut the averaged images into the first patches of `PatchEncoder`.
        arguments, keywords: of `DodgeEnv`, with observation mode topdown.
    """

    def __init__(self, squint: int, patch_order: bool, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self.squint = squint
        self.patch_order = patch_order

    def _stored_frame(self, game: State, params: GameParams) -> jax.Array:
        config = self.config
        image = paint_average(
            super()._stored_frame(game, params),
            self.squint,
            width=config.image_obs_width,
            height=config.image_obs_height,
            grayscale=config.image_grayscale,
        )
        return _cut(image) if self.patch_order else image

    def assemble(self, frames: jax.Array, time: jax.Array, previous_action: jax.Array) -> Any:
        """The observation that a stack of averaged images stands for; see `DodgeEnv.assemble`."""
        return self.stack(frames, time, previous_action)


class PatchEnv(DodgeEnv):
    """`DodgeEnv` whose images are drawn straight into the first patches of `PatchEncoder`.

    It observes uint8 (rows, columns, values of a patch), `to_patches` of the stacked images. Its
    `stack` takes and gives whole images, as a server sends them.
    """

    def assemble(self, frames: Any, time: jax.Array, previous_action: jax.Array) -> Any:
        """The observation that a stack of stored frames stands for; see `DodgeEnv.assemble`."""
        if not self._image:
            return super().assemble(frames, time, previous_action)
        config = self.config
        size = {"width": config.image_obs_width, "height": config.image_obs_height}
        side = patch_side(config.image_obs_height, config.image_obs_width)
        patches = paint_patches(frames, side, **size, grayscale=config.image_grayscale)
        patches = jnp.where(self._real(time)[:, None], patches, jnp.uint8(0))
        return self._with_action(patches.reshape(*patches.shape[:2], -1), time, previous_action)


def image_features(observation: Any, config: TrainConfig, game: GameConfig) -> dict[str, jax.Array]:
    """An image observation as the networks take it: `image`, and `previous_action` if it is shown.

    Of the image its background is subtracted, which is the same in every frame: else it is most of
    what the encoder sees, and learning from averaged images takes three times as long.

    Args:
        observation: of a server, of `DodgeEnv` or of `env_class`, batched or not.
        config: of the training.
        game: whose images these are.

    Returns:
        With `image`, float32, of the shape of `observed`.

    Raises:
        AssertionError: an image of another size.
    """
    observation = observation if isinstance(observation, dict) else {"image": observation}
    image = observation["image"]
    ground = background(game.image_obs_width, game.image_obs_height, game.image_grayscale)
    stacked: Any = observed(jnp.concatenate([ground] * game.frame_stack, axis=-1), config, game.frame_stack)
    if image.shape[-3:] != stacked.shape:
        chex.assert_shape(image, (..., game.image_obs_height, game.image_obs_width, None))
        image = observed(image, config, game.frame_stack)
    return observation | {"image": (image.astype(jnp.float32) - stacked) / GREY_LEVELS}


def env_class(config: TrainConfig) -> Callable[..., DodgeEnv]:
    """The environment that a training plays."""
    if config.squint > 1:
        return partial(SquintEnv, config.squint, config.patch_order)
    return PatchEnv if config.patch_order else DodgeEnv


def observed(image: jax.Array, config: TrainConfig, frame_stack: int) -> jax.Array:
    """What the environment of `env_class` observes of a stack of full images.

    Args:
        image: uint8 (..., height, width, channels * frame_stack).
        config: of the training.
        frame_stack: frames of the stack.

    Returns:
        uint8 (..., height / squint, width / squint, channels * frame_stack), or in patch order
        (..., rows, columns, values of a patch).
    """
    if config.squint == 1:
        return to_patches(image, patch_side(*image.shape[-3:-1])) if config.patch_order else image
    image = average(image, config.squint)
    if not config.patch_order:
        return image
    return jnp.concatenate([_cut(frame) for frame in jnp.split(image, frame_stack, axis=-1)], axis=-1)


def _cut(image: jax.Array) -> jax.Array:
    """An averaged image in patches, uint8 (..., rows, columns, values of a patch)."""
    return to_patches(image, -(-min(image.shape[-3:-1]) // AVERAGED_PATCHES_PER_SIDE))
