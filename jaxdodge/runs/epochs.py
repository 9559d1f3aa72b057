"""How long an epoch is, when to evaluate, and how long a training will take."""

from typing import TYPE_CHECKING

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.tables import seconds_text

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


class TimeLeft:
    """How long a training goes on: from its epochs that learn, and from its evaluations.

    Args:
        eval_freq: of `evaluation_is_due`.
        total: environment steps of the run.
    """

    def __init__(self, eval_freq: int, total: int):
        self._eval_freq, self._total = eval_freq, total
        self._steps, self._learning = 0, 0.0
        self._evaluations: list[float] = []

    def epoch(self, steps: int, seconds: float) -> None:
        """An epoch that learned has taken so long."""
        self._steps, self._learning = self._steps + steps, self._learning + seconds

    def evaluation(self, seconds: float) -> None:
        """An evaluation has taken so long. The first one compiles, and does not count."""
        self._evaluations.append(seconds)

    def seconds(self, timesteps: int) -> float | None:
        """From `timesteps` on; None before the first epoch that learned."""
        if not self._steps:
            return None
        total, freq, known = self._total, self._eval_freq, self._evaluations[1:]
        due = total // freq - timesteps // freq + bool(total % freq)
        due += sum(timesteps < freq // part for part in EARLY_EVALUATIONS)
        evaluating = due * sum(known) / len(known) if known else 0.0
        return (total - timesteps) * self._learning / self._steps + evaluating * (timesteps < total)


def rates(config: TrainConfig, metrics: "EpochMetrics", seconds: float) -> dict[str, float]:
    """Environment steps and updates per second of an epoch, of all seeds together."""
    steps, updating = metrics.learning.size, int(metrics.learning.sum())
    return {
        "steps_per_second": steps * config.num_envs / seconds,
        "updates_per_second": updating * config.gradient_steps / seconds,
    }


def projection(game: GameConfig, updates: float, seconds: float) -> str:
    """The line that says how fast a training is, and when it will end.

    Args:
        game: of the training; one from images that takes long is told a preset that does not.
        updates: per second.
        seconds: to go.
    """
    line = f"{updates:,.0f} updates/s" if updates >= 10 else f"{updates:.2g} updates/s"
    line += f", about {seconds_text(seconds)} to go"
    if game.observation_mode == "topdown" and seconds > LONG_SECONDS:
        line += " on this machine; the preset pixels_84 takes minutes"
    return line
