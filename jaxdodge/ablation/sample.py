"""A picture of what a policy sees."""

import base64
import dataclasses
import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.sim.env import DodgeEnv

# Seconds of the game after which a sample frame is taken: projectiles are in the arena.
SAMPLE_SECONDS = 2.0


def sample_frame(game: GameConfig) -> str | None:
    """What a policy sees of a fixed scene: a PNG in base64, or None for vectors."""
    if game.observation_mode != "topdown":
        return None
    from matplotlib.image import imsave

    # The scene is to be the same whatever the timing, so that pictures can be compared.
    scene = dataclasses.replace(
        game, frames_per_step=1, response_frame=1, frame_stack=1, observe_previous_action=False
    )
    env = DodgeEnv(scene)
    params = env.default_params
    _, state = env.reset(jax.random.key(0), params)
    still = jnp.zeros(env.num_actions)

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
        key, state = carry
        key, key_step = jax.random.split(key)
        return (key, env.step_env(key_step, state, still, params)[1]), None

    frames = round(SAMPLE_SECONDS * scene.fps)
    (_, state), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, frames))((jax.random.key(1), state))
    image = np.asarray(env.observe(None, state, None, params))
    file = io.BytesIO()
    imsave(file, np.broadcast_to(image, (*image.shape[:2], 3)), format="png")
    return base64.b64encode(file.getvalue()).decode()
