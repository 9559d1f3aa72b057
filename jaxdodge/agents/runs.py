"""A run on disk: `results/<config name>/<YYYYMMDD_HHMMSS>/`, all it takes to play its policy again.

config.yaml                 the full configuration of game and training
models/best, models/final   the averaged actor (flax msgpack)
logs/                       TensorBoard, and metrics.jsonl with the same figures
plots/learning_curves.png
summary.json                hardware, versions, times, counts, best and final evaluation
"""

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jaxdodge.agents.config import TrainConfig, refuse_untrainable
from jaxdodge.config import GAME_FIELDS, GameConfig
from jaxdodge.fields import ConfigError, check_names, read_yaml

# Parameters, logs and plot of a run take a few megabytes.
NEEDED_BYTES = 50_000_000
POLICIES = ("best", "final")


def split(values: dict[str, Any]) -> tuple[GameConfig, TrainConfig]:
    """Game and training configuration of a flat mapping; raises ConfigError."""
    training = {field.name: "" for field in dataclasses.fields(TrainConfig)}
    check_names(values, GAME_FIELDS | training, "the game or the training")
    game = GameConfig(**{name: value for name, value in values.items() if name not in training})
    refuse_untrainable(game)
    return game, TrainConfig(**{name: value for name, value in values.items() if name in training})


class Run:
    """A run's folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def create(cls, results: Path, name: str, game: GameConfig, train: TrainConfig) -> "Run":
        """A new folder `results/name/<now>` with the configuration in it.

        Raises:
            ConfigError: the disk is nearly full.
            OSError: the folder cannot be written.
        """
        folder = results / name / time.strftime("%Y%m%d_%H%M%S")
        for part in ("models", "logs", "plots"):
            (folder / part).mkdir(parents=True)
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            raise ConfigError(f"{folder}: {free / 1e6:.0f} MB free; a run needs {NEEDED_BYTES / 1e6:.0f} MB")
        values = dataclasses.asdict(game) | dataclasses.asdict(train)
        values["net_arch"] = list(train.net_arch)
        _write(folder / "config.yaml", yaml.safe_dump(values, sort_keys=False).encode())
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run in an existing folder; raises ConfigError."""
        if not (folder / "config.yaml").is_file():
            raise ConfigError(f"{folder}: not a run folder (no config.yaml in it)")
        return cls(folder)

    def config(self) -> tuple[GameConfig, TrainConfig]:
        """The configuration it was trained with; raises ConfigError."""
        return split(read_yaml(self.folder / "config.yaml"))

    def save_policy(self, name: str, weights: Any) -> None:
        """Write the parameters of a policy, one of POLICIES."""
        from flax import serialization

        _write(self.folder / "models" / name, serialization.to_bytes(weights))

    def policy_path(self, name: str) -> Path:
        """Where a saved policy lies; raises ConfigError if there is none."""
        path = self.folder / "models" / name
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; the run ended before its first evaluation")
        return path

    def load_policy(self, name: str, shapes: Any) -> Any:
        """Read the parameters of a policy; raises ConfigError.

        Args:
            name: one of POLICIES.
            shapes: parameters, or their shapes, of the networks that config.yaml describes.
        """
        import jax
        from flax import serialization

        path = self.policy_path(name)
        try:
            weights = serialization.from_bytes(shapes, path.read_bytes())
            fits = jax.tree.all(jax.tree.map(lambda new, old: new.shape == old.shape, weights, shapes))
        except Exception as error:  # on a damaged file msgpack and flax raise many kinds
            raise ConfigError(f"{path}: damaged ({type(error).__name__})") from None
        if not fits:
            raise ConfigError(f"{path}: its networks are not those of config.yaml")
        return weights

    def save_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        _write(self.folder / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


class Log:
    """The figures of a run: TensorBoard and JSON lines in `logs/`, and a plot of the evaluations."""

    def __init__(self, run: Run):
        from tensorboardX import SummaryWriter

        self._run = run
        self._tensorboard = SummaryWriter(str(run.folder / "logs"))
        self._lines = (run.folder / "logs" / "metrics.jsonl").open("a", encoding="utf-8")
        self._evaluations: list[dict[str, float]] = []

    def write(self, evaluation: dict[str, float], figures: dict[str, float]) -> None:
        """Add an evaluation, with the environment steps before it as `timesteps`, and other figures."""
        self._evaluations.append(evaluation)
        named = {f"evaluation/{name}": value for name, value in evaluation.items() if name != "timesteps"}
        for name, value in (named | figures).items():
            self._tensorboard.add_scalar(name, value, evaluation["timesteps"])
        self._lines.write(json.dumps({"timesteps": evaluation["timesteps"]} | named | figures) + "\n")
        self._lines.flush()

    def close(self) -> None:
        """Finish the files and draw the learning curve."""
        self._tensorboard.close()
        self._lines.close()
        if self._evaluations:
            self._plot()

    def _plot(self) -> None:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        steps, mean, std = (
            np.array([evaluation[name] for evaluation in self._evaluations])
            for name in ("timesteps", "mean", "std")
        )
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        axes.fill_between(steps, mean - std, mean + std, alpha=0.2, linewidth=0)
        axes.plot(steps, mean, marker="o")
        axes.set(
            xlabel="environment steps", ylabel="return (mean and standard deviation)", title="Evaluation"
        )
        axes.grid(alpha=0.3)
        figure.savefig(self._run.folder / "plots" / "learning_curves.png", dpi=120)
        plt.close(figure)
