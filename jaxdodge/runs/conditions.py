"""The conditions of an evaluation: games, and the domain randomization of their episodes."""

import dataclasses
import itertools
import math
from typing import Any

import yaml

from jaxdodge import yaml_text
from jaxdodge.agents.train_config import DomainRandomization
from jaxdodge.config import GAME_FIELDS, GameConfig
from jaxdodge.fields import ConfigError, check_names
from jaxdodge.runs.folder import changed_game

NOTHING = "nothing"
MOST_SETTINGS = 10_000
# What `evaluate --robustness` draws for every episode.
ROBUSTNESS = {
    NOTHING: DomainRandomization(),
    "frame time ±5 %": DomainRandomization(frame_time_jitter=0.05),
    "frame time ±15 %": DomainRandomization(frame_time_jitter=0.15),
    "±1 frame per step": DomainRandomization(frames_per_step_jitter=1),
    "response ±1 frame": DomainRandomization(response_frame_jitter=1),
    "spawn interval ±10 %": DomainRandomization(spawn_interval_jitter=0.1),
    "spawn angle ±10 %": DomainRandomization(spawn_angle_jitter=0.1),
    "all of these": DomainRandomization(
        frame_time_jitter=0.15,
        frames_per_step_jitter=1,
        response_frame_jitter=1,
        spawn_interval_jitter=0.1,
        spawn_angle_jitter=0.1,
    ),
}


@dataclasses.dataclass(frozen=True)
class Condition:
    """A game, and what is drawn in each of its episodes."""

    game: GameConfig
    randomization: DomainRandomization
    labels: dict[str, Any]
    """The columns that tell it from other conditions, by name."""


def read_grid(grid: tuple[str, ...]) -> dict[str, list[Any]]:
    """The values of each NAME=VALUE,VALUE ... by name; raises ConfigError."""
    axes: dict[str, list[Any]] = {}
    for axis in grid:
        name, equals, values = axis.partition("=")
        name = name.replace("-", "_")
        if not equals or name in axes:
            raise ConfigError(f"grid: invalid value {axis!r}; expected NAME=VALUE,VALUE ..., each name once")
        try:
            axes[name] = [yaml_text.load(value) for value in values.split(",")]
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"grid: invalid value {axis!r}; its values are not valid YAML") from None
    check_names(axes, GAME_FIELDS, "the game")
    count = math.prod(map(len, axes.values()))
    if count > MOST_SETTINGS:
        raise ConfigError(f"grid: invalid value {count} settings; expected at most {MOST_SETTINGS}")
    return axes


def conditions_of(
    trained: GameConfig, given: dict[str, Any], axes: dict[str, list[Any]], robustness: bool
) -> list[Condition]:
    """All combinations of the axes' values, the last axis fastest, each with every randomization.

    Args:
        trained: the game of the training.
        given: fields that all conditions change.
        axes: values by field, from `read_grid`.
        robustness: whether to add the randomizations of ROBUSTNESS, and a column that names them.

    Raises:
        ConfigError: the policy could not play one of them.
    """
    randomizations = ROBUSTNESS if robustness else {NOTHING: DomainRandomization()}
    conditions = []
    for values in itertools.product(*axes.values()):
        game = changed_game(trained, given | dict(zip(axes, values, strict=True)))
        fields = {name: getattr(game, name) for name in given | axes}
        for name, randomization in randomizations.items():
            labels = fields | ({"varied": name} if robustness else {})
            conditions.append(Condition(game, randomization, labels))
    return conditions
