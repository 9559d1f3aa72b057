"""The run that another one continues: its whole state, or its networks for another task.

`parent.json` in the new run's folder names it, so that the new run can be resumed before its first
checkpoint.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.files import atomic_write, read_json
from jaxdodge.runs.folder import Run, changed_game, configuration, split
from jaxdodge.runs.servers import Servers

if TYPE_CHECKING:
    from jaxdodge.runs.loop import Training

# Options with which the state of a training still fits, its replay included.
LONGER = ("total_timesteps", "eval_freq", "save_freq", "n_eval_episodes")
PREVIOUS_ACTION = "observe_previous_action"
# Options of the training that decide the shapes of the networks' parameters; `random_shift` only
# where it decides `TrainConfig.patch_order` of averaged images.
NETWORK_OPTIONS = (
    "net_arch",
    "encoder",
    "squint",
    "random_shift",
    "critic_observation",
    "normalize_observations",
    "seeds",
)


@dataclasses.dataclass(frozen=True)
class Parent:
    """A run and one of its checkpoints."""

    run: Run
    timesteps: int | None
    """Environment steps of the checkpoint; None for the newest usable one."""
    whole: bool
    """Whether the new run continues the state and the count of steps, or starts with the networks
    of the learner alone."""

    @classmethod
    def of(cls, run: Run) -> "Parent | None":
        """The parent of a run, if it has one; raises ConfigError for a damaged file."""
        path = run.folder / "parent.json"
        if not path.is_file():
            return None
        try:
            content = read_json(path)
            return cls(Run.open(Path(content["run"])), content["timesteps"], bool(content["whole"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: damaged ({type(error).__name__})") from None

    def load(self, training: "Training") -> None:
        """Put a training into its first state, and print where that comes from."""
        if self.whole:
            training.resume(self.run, self.timesteps, self.run.config())
            taken = "its whole state"
        else:
            from jaxdodge.runs.adopt import saved_state, with_networks

            training.start()
            own = training.state.learner
            learner = with_networks(own, saved_state(self.run, self.timesteps)[2].learner, self.run)
            if training.config.ent_coef != self.run.config()[1].ent_coef:
                learner = learner.replace(log_alpha=own.log_alpha)
            training.take_learner(learner)
            taken = "its networks; counts start at 0, with an empty replay"
        at = f" at {self.timesteps:,} steps" if self.timesteps is not None else ""
        print(f"from: {self.run.folder}{at} ({taken})", flush=True)

    def save(self, run: Run) -> None:
        """Write `parent.json` into the folder of the new run."""
        content = {
            "run": f"{self.run.folder.absolute()}",
            "timesteps": self.timesteps,
            "whole": self.whole,
        }
        atomic_write(run.folder / "parent.json", json.dumps(content, indent=1) + "\n")


def continued_game(trained: GameConfig, setting: dict[str, Any]) -> GameConfig:
    """As `changed_game`, for networks that go on learning: they can learn what they did not see.

    It becomes part of the observations where `setting` says so, and, unless `setting` says
    otherwise, where the new timing has a lag and the old one had none.
    """
    game = changed_game(trained, {name: setting[name] for name in setting if name != PREVIOUS_ACTION})
    lag, had = (one.response_frame < one.frames_per_step for one in (game, trained))
    shown = setting.get(PREVIOUS_ACTION)
    if shown is None:
        shown = trained.observe_previous_action or (lag and not had)
    if trained.observe_previous_action:
        return changed_game(game, {PREVIOUS_ACTION: shown})
    return dataclasses.replace(game, observe_previous_action=shown)


def check_same_networks(
    new: tuple[GameConfig, TrainConfig], old: tuple[GameConfig, TrainConfig], folder: Path
) -> None:
    """Raise ConfigError if the networks of the old run, in a folder, do not fit the new one."""
    own, trained = configuration(*new), configuration(*old)
    cut_alike = new[1].squint == 1 or new[1].patch_order == old[1].patch_order
    for name in NETWORK_OPTIONS:
        if own[name] != trained[name] and not (name == "random_shift" and cut_alike):
            raise ConfigError(
                f"{name}: invalid value {own[name]!r}; expected {trained[name]!r}, as {folder} has "
                "(--from takes over its networks)"
            )


def continued(
    run: Run, timesteps: int | None, values: dict[str, Any]
) -> tuple[GameConfig, TrainConfig, Parent]:
    """Configuration of a run that continues another one with other options.

    Args:
        run: to be continued.
        timesteps: environment steps of the checkpoint; None for the newest usable one.
        values: fields of game and training that differ.

    Raises:
        ConfigError: bad input.
    """
    game, train = run.config()
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    new_game = continued_game(game, {name: value for name, value in values.items() if name not in fields})
    own = {name: value for name, value in values.items() if name in fields}
    new_game, new_train = split(configuration(new_game, train) | own)
    check_same_networks((new_game, new_train), (game, train), run.folder)
    if timesteps is None:
        saved = [int(path.name) for path in run.checkpoints.glob("*") if path.name.isdigit()]
        timesteps = max(saved, default=None)
    if timesteps is None:
        raise ConfigError(f"from: {run.folder} has no checkpoint yet; expected a run that has one")
    same = {name: getattr(train, name) for name in LONGER}
    whole = (new_game, dataclasses.replace(new_train, **same)) == (game, train)
    # The state of a run on servers holds no environments.
    whole = whole and Servers.load(run.folder) is None
    if whole and new_train.total_timesteps <= timesteps:
        raise ConfigError(
            f"total_timesteps: invalid value {new_train.total_timesteps}; expected more than the "
            f"{timesteps} steps that {run.folder} has made, or another option that changes the task"
        )
    return new_game, new_train, Parent(run, timesteps, whole)
