"""The game as an agent meets it: environment, what the networks see of it, and its episodes."""

import dataclasses
from functools import partial
from typing import Any

import jax

from jaxdodge.agents.epoch import SAC
from jaxdodge.agents.features import image_inputs, vector_features
from jaxdodge.agents.randomization import draw_params, randomized_env
from jaxdodge.agents.train_config import Jitter, TrainConfig
from jaxdodge.agents.views import View
from jaxdodge.config import TRACED_FIELDS, GameConfig
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import GameParams


def make_sac(game: GameConfig, config: TrainConfig, seeds: int | None = None, devices: int = 1) -> SAC:
    """The algorithm for a game; seeds, devices: see `SAC`."""
    jitter = Jitter.of(config)
    env = randomized_env(game, jitter)

    def draw(key: jax.Array, params: GameParams) -> GameParams:
        penalty = config.collision_penalty_factor * params.collision_penalty
        return draw_params(key, params.replace(collision_penalty=penalty), jitter)

    if game.observation_mode != "topdown":
        # Fewer numbers than the observation, and most of a batch's cost if made anew for each.
        alone = game.frame_stack == 1
        view = View(env, partial(vector_features, config=game), keeps_inputs=alone)
        return SAC(view, config, draw, seeds=seeds, devices=devices)
    critic_view = None
    if config.critic_observation == "state":
        state = dataclasses.replace(env.config, observation_mode="standard", frame_stack=1)
        critic_view = View(DodgeEnv(state), partial(vector_features, config=state), keeps_inputs=True)
    return SAC(View(env, image_inputs), config, draw, critic_view, seeds, devices)


def static_parts(game: GameConfig, config: TrainConfig) -> Any:
    """What of a game is compiled in: where two games agree in it, the program of one serves the other.

    Player speed and frames per second are, because the networks' features depend on them.
    """
    env = randomized_env(game, Jitter.of(config))
    alike = {name: getattr(GameConfig(), name) for name in TRACED_FIELDS}
    return dataclasses.replace(env.config, **alike), env.static_parts
