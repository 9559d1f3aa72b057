"""A study: its cells, and the configuration of each. Nothing here imports JAX."""

import dataclasses
from typing import Any

from jaxdodge.agents.train_config import TrainConfig, rows_needed
from jaxdodge.config import GameConfig
from jaxdodge.runs.folder import split


@dataclasses.dataclass(frozen=True)
class Cell:
    """One combination of the factors."""

    name: str
    """Its levels, readable; no two cells have the same."""
    levels: dict[str, str]
    """Of each factor, the level's name."""
    fields: dict[str, Any]
    """All given fields of game and training, checked one by one only."""
    updates: int | None = None
    """Budget, where that is in updates."""

    def configuration(self) -> tuple[GameConfig, TrainConfig]:
        """Game and training; raises ConfigError where the fields do not go together."""
        game, train = split(self.fields)
        if self.updates is not None:
            total = timesteps_of(self.updates, game, train)
            train = dataclasses.replace(train, total_timesteps=total)
        return game, train


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study file says."""

    name: str
    question: str
    factors: dict[str, list[str]]
    """The names of each factor's levels, in the file's order."""
    cells: list[Cell]
    seeds: int
    minutes: float | None
    """Budget of training, where that is in minutes."""
    episodes: int
    """Of each evaluation."""
    conditions: dict[str, dict[str, Any]]
    """By name, the fields of the game that differ from the training's."""


def timesteps_of(updates: int, game: GameConfig, train: TrainConfig) -> int:
    """Environment steps after which so many updates have been made, at least."""
    needed = rows_needed(game.frame_stack, train.n_step)
    start = max(-(-train.learning_starts // train.num_envs), needed)
    times = -(-start // train.train_freq) - 1 + -(-updates // train.gradient_steps)
    return times * train.train_freq * train.num_envs
