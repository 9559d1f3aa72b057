"""The game as an agent meets it: environment, what the networks see of it, and its episodes."""

import dataclasses
from functools import partial

import jax

from jaxdodge.agents.config import Jitter, TrainConfig
from jaxdodge.agents.features import image_inputs, vector_features
from jaxdodge.agents.randomization import draw_params, randomized_env
from jaxdodge.agents.sac import SAC, View
from jaxdodge.config import GameConfig
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import GameParams


def make_sac(game: GameConfig, config: TrainConfig, seeds: int | None = None) -> SAC:
    """The algorithm for a game; seeds: see `SAC`."""
    jitter = Jitter.of(config)
    env = randomized_env(game, jitter)

    def draw(key: jax.Array, params: GameParams) -> GameParams:
        penalty = config.collision_penalty_factor * params.collision_penalty
        return draw_params(key, params.replace(collision_penalty=penalty), jitter)

    if game.observation_mode != "topdown":
        return SAC(env, partial(vector_features, config=game), config, draw, seeds=seeds)
    critic_view = None
    if config.critic_observation == "state":
        state = dataclasses.replace(env.config, observation_mode="standard", frame_stack=1)
        critic_view = View(DodgeEnv(state), partial(vector_features, config=state))
    return SAC(env, image_inputs, config, draw, critic_view, seeds)
