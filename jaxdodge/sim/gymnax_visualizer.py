"""gymnax's animation of an episode, for this game."""

import jax
import numpy as np
from gymnax.visualize import visualizer

from jaxdodge.render.topdown import draw
from jaxdodge.sim.env import EnvState
from jaxdodge.sim.publish import scene


class Visualizer(visualizer.Visualizer):
    """gymnax's own, which draws only environments that it knows by name, for this one.

    `Visualizer(env, params, states, rewards).animate("play.gif")`.
    """

    def init(self) -> None:
        """The first image."""
        self.ax.set_axis_off()
        self.im = self.ax.imshow(self._image(0))

    def update(self, frame: int) -> None:
        """The image of a frame, and its title."""
        super().update(frame)
        self.im.set_data(self._image(frame))

    def _image(self, frame: int) -> np.ndarray:
        return np.asarray(_image(self.state_seq[frame]))


@jax.jit
def _image(state: EnvState) -> jax.Array:
    return draw(scene(state.game), width=256, height=256, grayscale=False)
