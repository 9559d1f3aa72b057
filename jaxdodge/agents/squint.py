"""Image observations that are averaged down before the encoder.

A policy for the full images of a server then costs what one for small images costs. The
grey values of averages keep the position of a disc to a fraction of a pixel, which
drawing at the small size loses.

Source: Almuzairee and Christensen 2026, "Squint" (arXiv 2602.21203).
"""

from typing import Any

import jax

from jaxdodge.render.average import paint_average
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.state import State


class SquintEnv(DodgeEnv):
    """`DodgeEnv` whose images are averaged over blocks of pixels, without drawing them in full.

    Its observations are `average(image, squint)` of those of `DodgeEnv`, equal to
    the bit. Its stored frames are the averaged images: making them anew for each
    batch would be most of its cost.

    Args:
        squint: pixels along each side of a block, a divisor of the image's sides.
        arguments: of `DodgeEnv`, with observation mode topdown.
    """

    def __init__(self, squint: int, *arguments: Any):
        super().__init__(*arguments)
        self.squint = squint

    def _stored_frame(self, game: State, params: GameParams) -> jax.Array:
        config = self.config
        return paint_average(
            super()._stored_frame(game, params),
            self.squint,
            width=config.image_obs_width,
            height=config.image_obs_height,
            grayscale=config.image_grayscale,
        )

    def assemble(self, frames: jax.Array, time: jax.Array, previous_action: jax.Array) -> Any:
        """The observation that a stack of averaged images stands for; see `DodgeEnv.assemble`."""
        return self.stack(frames, time, previous_action)
