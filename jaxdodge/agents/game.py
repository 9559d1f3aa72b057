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
    """Parameters for training, one set per arena: `params` with other frame times and episode lengths.

    An agent that has met one frame time only learns its rhythm. Frames that are longer and shorter stand for
    another frame rate, another number of frames per step and another interval of throws alike.

    Without shorter episodes, the arenas of an agent that survives start anew rarely and all at once. The
    replay then forgets what the beginning of an episode is like, and the agent dies in it.

    Args:
        key: random key.
        params: of the configuration.
        config: its `num_envs`, `frame_time_jitter` and `shortest_episode`.

    Returns:
        Parameters with the leading axis (num_envs,).
    """
    key_frame, key_episode = jax.random.split(key)
    arenas = (config.num_envs,)
    jitter = config.frame_time_jitter
    factor = jax.random.uniform(key_frame, arenas, minval=1 - jitter, maxval=1 + jitter)
    nanoseconds = np.rint(np.asarray(factor, np.float64) * int(params.frame_nanoseconds)).astype(np.int32)
    share = config.shortest_episode ** jax.random.uniform(key_episode, arenas)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*arenas, *leaf.shape)), params).replace(
        frame_nanoseconds=jnp.asarray(nanoseconds),
        frame_seconds=jnp.asarray(frame_seconds(nanoseconds)),
        max_episode_steps=jnp.ceil(share * params.max_episode_steps).astype(jnp.int32),
    )
