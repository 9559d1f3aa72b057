"""A run on disk: `results/<config name>/<YYYYMMDD_HHMMSS>/`, to play its policy or to resume it.

config.yaml                 the full configuration of game and training
models/best, models/final   the EMA policy (flax msgpack)
models/checkpoints/         the training state, see checkpoints.py
logs/                       TensorBoard, and metrics.jsonl with the same figures
plots/learning_curves.png
lock                        locked by the process that trains in the folder
summary.json                hardware, versions, times, counts, best and final evaluation
seed_0/ seed_1/ ...         with several seeds: a folder like this one each, without checkpoints
"""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jaxdodge.agents.train_config import TrainConfig, check_trainable
from jaxdodge.config import GAME_FIELDS, LEVELS, GameConfig
from jaxdodge.fields import ConfigError, Name, Number, check_names, read_yaml
from jaxdodge.files import atomic_write, read_bytes, read_json
from jaxdodge.locks import locked

# Parameters, logs and plot of a run take a few megabytes.
NEEDED_BYTES = 50_000_000
POLICIES = ("best", "final")
# Policies without a run, see `jaxdodge.bevy.policies`.
SCRIPTED = ("random", "still", "strafe", "circle")
# Part of what the summary of a diverged run says.
NOT_FINITE = "is not finite"
LOCKED = "another process trains in it; expected a run that has stopped"
LARGEST_POLICY = 2**30
"""Bytes of a saved policy."""
# The fields that decide the shapes of actions and observations.
SHAPE_FIELDS = (
    "action_space_type",
    "observation_mode",
    "frame_stack",
    "observe_previous_action",
    "image_obs_width",
    "image_obs_height",
    "image_grayscale",
)


def split(values: dict[str, Any]) -> tuple[GameConfig, TrainConfig]:
    """Game and training configuration of a flat mapping; raises ConfigError."""
    training = {field.name: "" for field in dataclasses.fields(TrainConfig)}
    check_names(values, GAME_FIELDS | training, "the game or the training")
    game = GameConfig(**{name: value for name, value in values.items() if name not in training})
    train = TrainConfig(**{name: value for name, value in values.items() if name in training})
    check_trainable(game, train)
    Number(int, 1, 2**32 - train.seed).check("seeds", train.seeds)
    return game, train


def configuration(game: GameConfig, train: TrainConfig) -> dict[str, Any]:
    """Game and training configuration as one mapping for YAML or JSON."""
    values = dataclasses.asdict(game) | dataclasses.asdict(train)
    return values | {"net_arch": list(train.net_arch)}


def check_same_configuration(
    saved: dict[str, Any], game: GameConfig, train: TrainConfig, folder: Path
) -> None:
    """Raise ConfigError that names the differences of a run's configuration from its checkpoint's.

    Args:
        saved: the `configuration` in the checkpoint.
        game, train: of config.yaml.
        folder: of the run.
    """
    differing = [
        f"{name} {value!r}, not {saved.get(name)!r}"
        for name, value in configuration(game, train).items()
        if saved.get(name) != value
    ]
    if differing:
        raise ConfigError(
            f"{folder / 'config.yaml'}: changed since the checkpoint was saved: {'; '.join(differing)}"
        )


def changed_game(trained: GameConfig, setting: dict[str, Any]) -> GameConfig:
    """The game of a training with other settings; what depends on them is derived again.

    Args:
        trained: the game of the training.
        setting: fields to change. A `response_frame` of "full" is the last frame of a step.

    Raises:
        ConfigError: the policy could not play this game.
    """
    derived = {"projectile_slots", *(LEVELS[1] if "level" in setting else ())}
    if "frames_per_step" in setting and trained.response_frame == trained.frames_per_step:
        # The last frame of a step remains the last one.
        derived.add("response_frame")
    kept = {name: value for name, value in dataclasses.asdict(trained).items() if name not in derived}
    if setting.get("response_frame") == "full":
        setting = setting | {"response_frame": None}
    game = GameConfig(**kept | setting)
    for name in SHAPE_FIELDS:
        if getattr(game, name) != getattr(trained, name):
            raise ConfigError(
                f"{name}: invalid value {getattr(game, name)!r}; expected {getattr(trained, name)!r}, "
                "which the policy was trained with"
            )
    return game


def check_results_folder(results: Path, name: str) -> None:
    """Raises ConfigError if no new run could be written to `results/name`."""
    folder = results / name
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise ConfigError(f"{folder}: cannot be written")
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES:
        raise ConfigError(f"{folder}: {free / 1e6:.0f} MB free; a run needs {NEEDED_BYTES / 1e6:.0f} MB")


class Run:
    """A run's folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def create(cls, results: Path, name: str, game: GameConfig, train: TrainConfig) -> "Run":
        """Create the folder `results/name/<now>`, one for each seed in it, and the configurations.

        Raises:
            ConfigError: no run can be written there.
        """
        check_results_folder(results, name)
        (results / name).mkdir(parents=True, exist_ok=True)
        run = cls(new_folder(results / name))
        run.prepare(game, train)
        return run

    def prepare(self, game: GameConfig, train: TrainConfig) -> None:
        """Create its folders if they are missing, and write its configuration."""
        for part in self.seed_runs(train):
            for folder in ("models", "logs", "plots"):
                (part.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "plots").mkdir(exist_ok=True)
        for index, part in enumerate(self.seed_runs(train)):
            part._write_config(game, dataclasses.replace(train, seed=train.seed + index, seeds=1))
        # Written last, because it makes the folder a run.
        self._write_config(game, train)

    def seed_runs(self, train: TrainConfig) -> list["Run"]:
        """A run for each seed: the folders `seed_0`, `seed_1` ..., or this run for one seed."""
        if train.seeds == 1:
            return [self]
        return [Run(self.folder / f"seed_{index}") for index in range(train.seeds)]

    def copy_logs(self, source: "Run", train: TrainConfig) -> None:
        """Copy the logs of the run that this one branches off from."""
        for part, other in zip(self.seed_runs(train), source.seed_runs(train), strict=True):
            shutil.copytree(other.folder / "logs", part.folder / "logs", dirs_exist_ok=True)

    def _write_config(self, game: GameConfig, train: TrainConfig) -> None:
        text = yaml.safe_dump(configuration(game, train), sort_keys=False)
        atomic_write(self.folder / "config.yaml", text)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run in an existing folder; raises ConfigError."""
        if not (folder / "config.yaml").is_file():
            below = (
                path.parent for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/config.yaml")
            )
            newest = max(below, key=lambda path: path.name, default=None)
            hint = f"; expected one such as {newest}" if newest else ""
            raise ConfigError(f"{folder}: not a run folder (no config.yaml in it){hint}")
        return cls(folder)

    @classmethod
    def open_one(cls, folder: Path) -> "Run":
        """The run of one seed in an existing folder; raises ConfigError."""
        run = cls.open(folder)
        if run.config()[1].seeds > 1:
            raise ConfigError(f"{folder}: several seeds; expected one of them, such as {folder}/seed_0")
        return run

    @classmethod
    def open_seeds(cls, folder: Path) -> list["Run"]:
        """The run in a folder, or those of its seeds in the order of their numbers.

        Raises:
            ConfigError: there is none.
        """
        if not (folder / "seed_0" / "config.yaml").is_file():
            return [cls.open(folder)]
        numbers = [path.name.removeprefix("seed_") for path in folder.glob("seed_*")]
        return [
            cls.open(folder / f"seed_{number}") for number in sorted(filter(str.isdecimal, numbers), key=int)
        ]

    @classmethod
    def newest(cls, results: Path, name: str, game: GameConfig, train: TrainConfig) -> "Run | None":
        """The newest run of a configuration that can be resumed, if there is one."""
        return next((run for run in cls.unfinished(results, name) if run.config() == (game, train)), None)

    @classmethod
    def unfinished(cls, results: Path, name: str) -> Iterator["Run"]:
        """The runs that can be resumed, the newest first.

        They are neither finished nor diverged, and no process trains in them.
        """
        for folder in sorted((results / name).glob("*/"), reverse=True):
            try:
                run = cls.open(folder)
                if run.finished() or run.diverged():
                    continue
                run.config()
                run.check_unlocked()
            except ConfigError:  # not a run, of another version, or locked
                continue
            yield run

    def finished(self) -> bool:
        """Whether it was trained to its end."""
        return self._stop_reason() is None

    def diverged(self) -> bool:
        """Whether it stopped because a quantity was not finite; resumed, it would diverge again."""
        return NOT_FINITE in (self._stop_reason() or "")

    def _stop_reason(self) -> str | None:
        """Why it stopped early: None if it finished, an empty text if there is no summary."""
        try:
            summary = read_json(self.folder / "summary.json")
        except (OSError, ValueError):
            return ""
        if not isinstance(summary, dict):
            return ""
        stopped = summary.get("stopped")
        return None if stopped is None else str(stopped)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Lock it for this process; raises ConfigError if another process trains in it."""
        return locked(self.folder, LOCKED)

    def check_unlocked(self) -> None:
        """Raises ConfigError if another process trains in it."""
        # Shared, because all processes of one run check at the same time.
        with locked(self.folder, LOCKED, shared=True):
            pass

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "models" / "checkpoints"

    def config(self) -> tuple[GameConfig, TrainConfig]:
        """The configuration it was trained with; raises ConfigError."""
        path = self.folder / "config.yaml"
        values = read_yaml(path)
        game, train = split(values)
        # Version 0.1 wrote no `squint`, and its encoders saw the background of an image.
        if game.observation_mode == "topdown" and "squint" not in values:
            raise ConfigError(f"{path}: an image run of version 0.1; expected one of 0.2 or later")
        return game, train

    def save_policy(self, name: str, weights: Any) -> None:
        """Write the parameters of a policy, one of POLICIES."""
        from flax import serialization

        atomic_write(self.folder / "models" / name, serialization.to_bytes(weights))

    def policy_path(self, name: str) -> Path:
        """The file of a saved policy; raises ConfigError if there is none."""
        path = self.folder / "models" / name
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; the run has not reached its first evaluation")
        return path

    def load_policy(self, name: str, shapes: Any) -> Any:
        """Read the parameters of a policy; raises ConfigError.

        Args:
            name: one of POLICIES.
            shapes: parameters, or their shapes, of the networks that config.yaml describes.
        """
        import jax
        from flax import serialization

        Name(POLICIES).check("policy", name)
        path = self.policy_path(name)
        try:
            weights = serialization.from_bytes(shapes, read_bytes(path, LARGEST_POLICY))
            fits = jax.tree.all(
                jax.tree.map(
                    lambda new, old: (new.shape, new.dtype) == (old.shape, old.dtype), weights, shapes
                )
            )
        except Exception as error:  # msgpack and flax raise many kinds for damaged files
            raise ConfigError(f"{path}: damaged ({type(error).__name__})") from None
        if not fits:
            raise ConfigError(f"{path}: its networks are not those of config.yaml")
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)):
            raise ConfigError(f"{path}: its weights are not finite")
        return weights

    def save_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        atomic_write(self.folder / "summary.json", json.dumps(summary, indent=1) + "\n")


def common_config(runs: list[Run]) -> tuple[GameConfig, TrainConfig]:
    """The first run's configuration; raises ConfigError if others differ in more than the seed."""
    game, config = runs[0].config()
    for run in runs[1:]:
        other_game, other = run.config()
        if (other_game, dataclasses.replace(other, seed=config.seed)) != (game, config):
            raise ConfigError(f"{run.folder}: differs from {runs[0].folder} in more than the seed")
    return game, config


def new_folder(parent: Path) -> Path:
    """Create a folder named by the time; waits for the next second if that name is taken."""
    while True:
        folder = parent / time.strftime("%Y%m%d_%H%M%S")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            time.sleep(0.1)
