"""A study: its cells and the configuration of each. This module does not import JAX."""

import dataclasses
from typing import Any

from jaxdodge.agents.train_config import TrainConfig, steps_before_learning
from jaxdodge.config import GameConfig
from jaxdodge.runs.folder import split


@dataclasses.dataclass(frozen=True)
class Cell:
    """One combination of factor levels."""

    name: str
    """Its levels as text; unique in the study."""
    levels: dict[str, str]
    """Level name by factor."""
    fields: dict[str, Any]
    """All fields of game and training that are set; each is valid, their combination may not be."""
    updates: int | None = None
    """Budget, if it is given in updates."""

    def configuration(self) -> tuple[GameConfig, TrainConfig]:
        """Game and training configuration; raises ConfigError if the fields are incompatible."""
        game, train = split(self.fields)
        if self.updates is not None:
            game, train = split({**self.fields, "total_timesteps": timesteps_of(self.updates, game, train)})
        return game, train


@dataclasses.dataclass(frozen=True)
class Study:
    """The content of a study file."""

    name: str
    question: str
    factors: dict[str, list[str]]
    """Level names by factor, in the order of the file."""
    cells: list[Cell]
    seeds: int
    minutes: float | None
    """Training budget, if it is given in minutes."""
    episodes: int
    """Episodes of each evaluation."""
    conditions: dict[str, dict[str, Any]]
    """Evaluation conditions by name: the game fields that differ from the training's."""


def timesteps_of(updates: int, game: GameConfig, train: TrainConfig) -> int:
    """The fewest environment steps in which at least so many updates are made."""
    first_step = steps_before_learning(train, game.frame_stack)
    rounds = -(-first_step // train.train_freq) - 1 + -(-updates // train.gradient_steps)
    return rounds * train.train_freq * train.num_envs
