"""From the configurations to a compiled epoch, which runs of one process share."""

import dataclasses
import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdodge.agents.features import vector_features
from jaxdodge.agents.images import env_class, image_features
from jaxdodge.agents.observations import Observer, Observers
from jaxdodge.agents.randomization import draw_params, randomized_env
from jaxdodge.agents.train_config import DomainRandomization, TrainConfig
from jaxdodge.agents.trainer import Trainer
from jaxdodge.config import SAME_NUMBERS, GameConfig
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import GameParams, game_params


def make_trainer(
    game: GameConfig, config: TrainConfig, seeds: int | None = None, devices: int = 1
) -> Trainer:
    """The trainer of an agent for a game; seeds, devices: see `Trainer`."""
    randomization = DomainRandomization.of(config)
    env = randomized_env(game, randomization, env_class(config))

    def draw(key: jax.Array, params: GameParams) -> GameParams:
        penalty = config.collision_penalty_factor * params.collision_penalty
        return draw_params(key, params.replace(collision_penalty=penalty), randomization)

    return Trainer(make_observers(env, game, config), config, draw, seeds, devices)


def make_observers(env: DodgeEnv, game: GameConfig, config: TrainConfig) -> Observers:
    """What actor and critics observe of a game.

    Args:
        env: the environment of `game`, with domain randomization.
        game: without it; the features depend on its timing.
        config: of the training.
    """
    if game.observation_mode == "topdown":
        actor = Observer(env, partial(image_features, config=config, game=game))
    else:
        # Without frame stacking, features are smaller than observations, and computing them for
        # each batch would be most of its cost.
        actor = Observer(env, partial(vector_features, config=game), store_features=game.frame_stack == 1)
    if config.critic_observation == "same":
        return Observers(actor, actor)
    privileged = dataclasses.replace(env.config, observation_mode="standard", frame_stack=1)
    features = partial(vector_features, config=privileged)
    return Observers(actor, Observer(DodgeEnv(privileged), features, store_features=True))


class Program:
    """What is compiled for a run: everything but the numbers in `GameParams` and the random keys.

    Args:
        game, config: of one of the runs that it is for.
        steps: of all environments, in an epoch.
        devices: see `Trainer`.
    """

    def __init__(self, game: GameConfig, config: TrainConfig, steps: int, devices: int = 1):
        self.trainer = make_trainer(game, config, config.seeds if config.seeds > 1 else None, devices)
        self.params = game_params(game)
        self.steps = steps
        keys = jax.random.split(jax.random.key(0), config.seeds)
        self.shapes = jax.eval_shape(self.trainer.init, keys if config.seeds > 1 else keys[0], self.params)

    def shardings(self) -> Any:
        """Of every leaf of a state; None on one device."""
        shardings = self.trainer.shardings()
        return shardings and jax.tree.broadcast(shardings, self.shapes)

    @functools.cached_property
    def epoch(self) -> Any:
        """The compiled epoch."""
        shapes = self.shapes
        if self.trainer.layout:
            shapes = jax.tree.map(
                lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                shapes,
                self.shardings(),
            )
        lowered = self.trainer.epoch.lower(shapes, self.params, jnp.int32(0), steps=self.steps)
        return lowered.compile()


# The latest program. Compiling takes as long as thousands of updates, and consecutive runs often
# differ in numbers only.
_latest: dict[Any, Program] = {}


def shared_program(game: GameConfig, config: TrainConfig, steps: int, devices: int = 1) -> Program:
    """The program of this run, compiled already if that of the run before serves it too."""
    same = dataclasses.replace(config, seed=0, eval_freq=1, save_freq=1, n_eval_episodes=1)
    key = _static_game(game, config), same, steps, devices
    if key not in _latest:
        _latest.clear()
        _latest[key] = Program(game, config, steps, devices)
    return _latest[key]


def _static_game(game: GameConfig, config: TrainConfig) -> Any:
    """What of a game is compiled in: games that agree in it can share a program.

    Player speed and frames per second are compiled in, because the features depend on them.
    """
    env = randomized_env(game, DomainRandomization.of(config))
    return dataclasses.replace(env.config, **SAME_NUMBERS), env.static_parts


def forget_programs() -> None:
    """Drop everything that is compiled, and the memory that it takes."""
    _latest.clear()
    jax.clear_caches()
