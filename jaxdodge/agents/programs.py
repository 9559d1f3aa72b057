"""Compiled epochs, shared by runs that follow one another."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxdodge.agents.epoch import TrainState
from jaxdodge.agents.setup import make_sac, static_parts
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.sim.params import game_params


class Program:
    """What is compiled for a run: everything but the numbers in `GameParams` and the seeds' keys.

    Args:
        game, config: of one of the runs that it is for.
        steps: of all arenas, in an epoch.
        devices: see `SAC`.
    """

    def __init__(self, game: GameConfig, config: TrainConfig, steps: int, devices: int = 1):
        self.sac = make_sac(game, config, config.seeds if config.seeds > 1 else None, devices)
        self.params = game_params(game)
        self.steps = steps
        keys = jax.random.split(jax.random.key(0), config.seeds)
        self.shapes = jax.eval_shape(self.sac.init, keys if config.seeds > 1 else keys[0], self.params)

    def shardings(self) -> Any:
        """Of every leaf of a state; None on one device."""
        layout = self.sac.layout
        return jax.tree.broadcast(layout.state(TrainState), self.shapes) if layout else None

    @functools.cached_property
    def epoch(self) -> Any:
        """The compiled epoch."""
        shapes = self.shapes
        if self.sac.layout:
            shapes = jax.tree.map(
                lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                shapes,
                self.shardings(),
            )
        lowered = self.sac.epoch.lower(shapes, self.params, jnp.int32(0), steps=self.steps)
        return lowered.compile()


# The latest program. Compiling takes as long as thousands of updates, and runs that follow one another often
# differ in numbers only.
_latest: dict[Any, Program] = {}


def shared_program(game: GameConfig, config: TrainConfig, steps: int, devices: int = 1) -> Program:
    """A program that serves this run, compiled already if the run before could use it too."""
    alike = dataclasses.replace(config, seed=0, eval_freq=1, save_freq=1, n_eval_episodes=1)
    key = static_parts(game, config), alike, steps, devices
    if key not in _latest:
        _latest.clear()
        _latest[key] = Program(game, config, steps, devices)
    return _latest[key]


def forget_programs() -> None:
    """Drop everything that is compiled, and the memory that it takes."""
    _latest.clear()
    jax.clear_caches()
