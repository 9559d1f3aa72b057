"""A run on disk: `results/<config name>/<YYYYMMDD_HHMMSS>/`, all it takes to play its policy or to go on.

config.yaml                 the full configuration of game and training
models/best, models/final   the averaged policy (flax msgpack)
models/checkpoints/         the whole training state, see checkpoints.py
logs/                       TensorBoard, and metrics.jsonl with the same figures
plots/learning_curves.png
lock                        held by the process that trains in it
summary.json                hardware, versions, times, counts, best and final evaluation
seed_0/ seed_1/ ...         with several seeds: a folder like this one each, without checkpoints of its own
"""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import yaml

from jaxdodge.agents.train_config import TrainConfig, check_trainable
from jaxdodge.config import GAME_FIELDS, LEVELS, GameConfig
from jaxdodge.fields import ConfigError, Number, check_names, read_yaml
from jaxdodge.files import atomic_write
from jaxdodge.locks import locked

# Parameters, logs and plot of a run take a few megabytes.
NEEDED_BYTES = 50_000_000
POLICIES = ("best", "final")
# In what the summary of a diverged run says.
NOT_FINITE = "is not finite"
TRAINED = "another process trains in it; expected a run that has stopped"
# What gives actions and observations their shapes.
SEEN = (
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


def changed_game(trained: GameConfig, setting: dict[str, Any]) -> GameConfig:
    """The game of a training with other settings, with what follows from those derived anew.

    Raises:
        ConfigError: the policy could not play it.
    """
    derived = {"projectile_slots", *(LEVELS[1] if "level" in setting else ())}
    if "frames_per_step" in setting and trained.response_frame == trained.frames_per_step:
        # The last frame stays the last.
        derived.add("response_frame")
    kept = {name: value for name, value in dataclasses.asdict(trained).items() if name not in derived}
    if setting.get("response_frame") == "full":
        setting = setting | {"response_frame": None}
    game = GameConfig(**kept | setting)
    for name in SEEN:
        if getattr(game, name) != getattr(trained, name):
            raise ConfigError(
                f"{name}: invalid value {getattr(game, name)!r}; expected {getattr(trained, name)!r}, "
                "which the policy was trained with"
            )
    return game


def check_place(results: Path, name: str) -> None:
    """Refuse where no new run could be written; raises ConfigError."""
    folder = results / name
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
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
        """A new folder `results/name/<now>` with the configuration in it, and one in it for each seed.

        Raises:
            ConfigError: no run can be written there.
        """
        check_place(results, name)
        (results / name).mkdir(parents=True, exist_ok=True)
        run = cls(_new_folder(results / name))
        run.prepare(game, train)
        return run

    def prepare(self, game: GameConfig, train: TrainConfig) -> None:
        """Make its folders, where they are missing, and write its configuration."""
        for part in self.parts(train):
            for folder in ("models", "logs", "plots"):
                (part.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "plots").mkdir(exist_ok=True)
        for index, part in enumerate(self.parts(train)):
            part._write_config(game, dataclasses.replace(train, seed=train.seed + index, seeds=1))
        # Last, because with it the folder counts as a run.
        self._write_config(game, train)

    def parts(self, train: TrainConfig) -> list["Run"]:
        """The runs of the seeds: their folders, or only this run itself."""
        if train.seeds == 1:
            return [self]
        return [Run(self.folder / f"seed_{index}") for index in range(train.seeds)]

    def copy_logs(self, source: "Run", train: TrainConfig) -> None:
        """Take over what another run has logged, from which this one branches off."""
        for part, other in zip(self.parts(train), source.parts(train), strict=True):
            shutil.copytree(other.folder / "logs", part.folder / "logs", dirs_exist_ok=True)

    def _write_config(self, game: GameConfig, train: TrainConfig) -> None:
        values = dataclasses.asdict(game) | dataclasses.asdict(train)
        values["net_arch"] = list(train.net_arch)
        atomic_write(self.folder / "config.yaml", yaml.safe_dump(values, sort_keys=False))

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run in an existing folder; raises ConfigError."""
        if not (folder / "config.yaml").is_file():
            raise ConfigError(f"{folder}: not a run folder (no config.yaml in it)")
        return cls(folder)

    @classmethod
    def newest(cls, results: Path, name: str, game: GameConfig, train: TrainConfig) -> "Run | None":
        """The newest run of a configuration that can go on, if there is one.

        Not one that is finished or has diverged, nor one that is being trained.
        """
        for folder in sorted((results / name).glob("*/"), reverse=True):
            try:
                run = cls.open(folder)
                if run.config() == (game, train) and not run.finished() and not run.diverged():
                    run.refuse_locked()
                    return run
            except ConfigError:  # not a run, of another version, or locked
                pass
        return None

    def finished(self) -> bool:
        """Whether it has come to its end."""
        return self._stopped() is None

    def diverged(self) -> bool:
        """Whether it stopped because something was not finite; going on, it would come to the same."""
        return NOT_FINITE in (self._stopped() or "")

    def _stopped(self) -> str | None:
        """What its summary says of why it stopped before its end; nothing without a summary."""
        try:
            summary = json.loads((self.folder / "summary.json").read_text())
        except (OSError, ValueError):
            return ""
        stopped = summary.get("stopped")
        return None if stopped is None else str(stopped)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep it to this process; raises ConfigError where another one trains in it."""
        return locked(self.folder, TRAINED)

    def refuse_locked(self) -> None:
        """Raises ConfigError where another process trains in it."""
        # Shared, as all processes of one run ask at the same time.
        with locked(self.folder, TRAINED, shared=True):
            pass

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "models" / "checkpoints"

    def config(self) -> tuple[GameConfig, TrainConfig]:
        """The configuration it was trained with; raises ConfigError."""
        return split(read_yaml(self.folder / "config.yaml"))

    def save_policy(self, name: str, weights: Any) -> None:
        """Write the parameters of a policy, one of POLICIES."""
        from flax import serialization

        atomic_write(self.folder / "models" / name, serialization.to_bytes(weights))

    def policy_path(self, name: str) -> Path:
        """Where a saved policy lies; raises ConfigError if there is none."""
        path = self.folder / "models" / name
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; the run has not come to its first evaluation")
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
        atomic_write(self.folder / "summary.json", json.dumps(summary, indent=1) + "\n")


def _new_folder(parent: Path) -> Path:
    """A new folder named by the time; waits for the next second if that is taken."""
    while True:
        folder = parent / time.strftime("%Y%m%d_%H%M%S")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            time.sleep(0.1)
