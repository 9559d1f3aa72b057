"""How long an epoch is, when to evaluate, and how long a training will take."""

from typing import TYPE_CHECKING

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig

if TYPE_CHECKING:
    from jaxdodge.agents.trainer import EpochMetrics

# Limits of one epoch, a jitted call. On one core it takes a second on vectors, and up to ten on
# images, so that interruptions and the progress bar respond.
EPOCH_TIMESTEPS = 25_600
EPOCH_UPDATES = 400
EPOCH_PIXELS = 2**29
# How much longer than the patch encoder the convolutions take for a pixel.
NATURE_COST = 8
# Most is learned before the first full interval, so a curve starts with parts of it.
EARLY_EVALUATIONS = (8, 4, 2)

# A training from images that takes longer than this is told so, with a preset that does not.
LONG_SECONDS = 6 * 3600


def steps_of_an_epoch(game: GameConfig, config: TrainConfig) -> int:
    """Steps of all environments in an epoch."""
    steps, updates = EPOCH_TIMESTEPS // config.num_envs, EPOCH_UPDATES
    if game.observation_mode == "topdown":
        updates = min(updates, EPOCH_PIXELS // pixels_of_an_update(game, config))
    return max(1, min(steps, updates * config.train_freq // config.gradient_steps))


def pixels_of_an_update(game: GameConfig, config: TrainConfig) -> int:
    """Values that the patch encoder reads in an update, or as many as take as long."""
    channels = game.frame_stack * (1 if game.image_grayscale else 3)
    image = game.image_obs_width * game.image_obs_height * channels // config.squint**2
    return 2 * config.batch_size * image * (NATURE_COST if config.encoder == "nature" else 1)


def is_due(frequency: int, before: int, timesteps: int, total: int) -> bool:
    """Whether `timesteps` completes the run, or `frequency` steps since `before`."""
    return before // frequency < timesteps // frequency or timesteps == total


def evaluation_is_due(frequency: int, before: int, timesteps: int, total: int) -> bool:
    """As `is_due`, and at an eighth, a quarter and half of the first `frequency` steps too."""
    early = (frequency // part for part in EARLY_EVALUATIONS)
    return is_due(frequency, before, timesteps, total) or any(before < at <= timesteps for at in early)


def rates(config: TrainConfig, metrics: "EpochMetrics", seconds: float) -> dict[str, float]:
    """Environment steps and updates per second of an epoch, of all seeds together."""
    steps, updating = metrics.learning.size, int(metrics.learning.sum())
    return {
        "steps_per_second": steps * config.num_envs / seconds,
        "updates_per_second": updating * config.gradient_steps / seconds,
    }


def projection(game: GameConfig, rates: dict[str, float], steps_left: int) -> str:
    """The line that says how fast a training is, and when it will end.

    Args:
        game: of the training; one from images that takes long is told a preset that does not.
        rates: `steps_per_second` and `updates_per_second`.
        steps_left: environment steps to go.
    """
    seconds = steps_left / rates["steps_per_second"]
    hours = f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"
    updates = rates["updates_per_second"]
    line = f"{updates:,.0f} updates/s" if updates >= 10 else f"{updates:.2g} updates/s"
    line += f", about {hours} to go"
    if game.observation_mode == "topdown" and seconds > LONG_SECONDS:
        line += " on this machine; the preset pixels_84 takes minutes"
    return line
