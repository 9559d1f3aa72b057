"""The game as an agent meets it: the environment with its features, and the arenas that it trains in."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.agents.config import TrainConfig
from jaxdodge.agents.networks import vector_features
from jaxdodge.agents.sac import SAC
from jaxdodge.config import GameConfig
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import GameParams, frame_seconds


def make_sac(game: GameConfig, config: TrainConfig) -> SAC:
    """The algorithm for a game."""
    return SAC(DodgeEnv(game), partial(vector_features, config=game), config)


def arena_params(key: jax.Array, params: GameParams, config: TrainConfig) -> GameParams:
    """Parameters for training, one set per arena: `params` with frame times that differ.

    An agent that has met one frame time only learns its rhythm. Frames that are longer and shorter stand for
    another frame rate, another number of frames per step and another interval of throws alike.

    Args:
        key: random key.
        params: of the configuration.
        config: its `num_envs` and `frame_time_jitter`.

    Returns:
        Parameters with the leading axis (num_envs,).
    """
    jitter = config.frame_time_jitter
    factor = jax.random.uniform(key, (config.num_envs,), minval=1 - jitter, maxval=1 + jitter)
    nanoseconds = np.rint(np.asarray(factor, np.float64) * int(params.frame_nanoseconds)).astype(np.int32)
    arenas = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (config.num_envs, *leaf.shape)), params)
    return arenas.replace(
        frame_nanoseconds=jnp.asarray(nanoseconds), frame_seconds=jnp.asarray(frame_seconds(nanoseconds))
    )
