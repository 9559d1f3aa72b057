"""Image observations that are averaged down before the encoder.

A policy for the full images of a server then costs what one for small images costs. The
grey values of averages keep the position of a disc to a fraction of a pixel, which
drawing at the small size loses.

Source: Almuzairee and Christensen 2026, "Squint" (arXiv 2602.21203).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdodge.agents.encoders import patch_side, to_patches
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.render.average import average, paint_average
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.state import State


class SquintEnv(DodgeEnv):
    """`DodgeEnv` whose images are averaged over blocks of pixels, without drawing them in full.

    Its observations are those of `DodgeEnv` after `image_features`, equal to
    the bit. Its stored frames are the averaged images: making them anew for each batch
    would be most of its cost.

    Args:
        squint: pixels along each side of a block, a divisor of the image's sides.
        patch_order: cut the averaged images into the first patches of `PatchEncoder`.
        arguments: of `DodgeEnv`, with observation mode topdown.
    """

    def __init__(self, squint: int, patch_order: bool, *arguments: Any):
        super().__init__(*arguments)
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


def image_features(observation: Any, config: TrainConfig, game: GameConfig) -> dict[str, jax.Array]:
    """An image observation as the networks take it: `image`, and `previous_action` if it is shown.

    Args:
        observation: of a server, of `DodgeEnv` or of `env_class`, batched or not.
        config: of the training.
        game: whose images these are.
    """
    observation = observation if isinstance(observation, dict) else {"image": observation}
    image = observation["image"]
    squinted = image.shape[-3] != game.image_obs_height
    if config.squint == 1 or squinted:
        return observation
    image = average(image, config.squint)
    if config.patch_order:
        frames = jnp.split(image, game.frame_stack, axis=-1)
        image = jnp.concatenate([_cut(frame) for frame in frames], axis=-1)
    return observation | {"image": image}


def env_class(config: TrainConfig) -> Callable[..., DodgeEnv]:
    """`DodgeEnv`, or `SquintEnv` for a training that averages images."""
    return partial(SquintEnv, config.squint, config.patch_order) if config.squint > 1 else DodgeEnv


def _cut(image: jax.Array) -> jax.Array:
    """An averaged image in patches, uint8 (..., rows, columns, values of a patch)."""
    return to_patches(image, patch_side(*image.shape[-3:-1]))
