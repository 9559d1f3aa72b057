"""Stable-Baselines3 (SB3) on this game: `make_vec_env`, and the command `jaxdodge sb3`.

The command runs PPO, DQN or SAC of SB3 on a training file of the original project. Exit status: 0
finished, 2 bad input, 130 stopped by Ctrl-C (the model is saved).
"""

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from jaxdodge import resources
from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Number, read_yaml
from jaxdodge.files import atomic_write
from jaxdodge.hardware import keep_compiled
from jaxdodge.runs.folder import check_results_folder, new_folder
from jaxdodge.runs.options import parse_options
from jaxdodge.runs.original import RENAMED, ignored_line
from jaxdodge.runs.original_sb3 import ALGORITHMS, RUN_NAMES, algorithm_of, game_of, sb3_arguments

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecMonitor


def make_vec_env(
    n_envs: int = 1,
    seed: int | None = None,
    monitor_dir: str | None = None,
    render_mode: str | None = None,
    render_width: int | None = None,
    render_height: int | None = None,
    **fields: Any,
) -> "VecMonitor":
    """A vector environment for Stable-Baselines3 and sbx, with the statistics of episodes.

    Args:
        n_envs: number of environments; they are stepped in one compiled call.
        seed: of the first environment; the next one has seed + 1, and so on.
        monitor_dir: existing folder for a file of episodes, `monitor.csv`.
        render_mode, render_width, render_height: as for `gymnasium.make`.
        **fields: any field of `GameConfig`, such as `level=2, frames_per_step=7`.

    Raises:
        ConfigError: an invalid value, or Stable-Baselines3 is not installed.
    """
    try:
        from stable_baselines3.common.vec_env import VecMonitor

        from jaxdodge.sim.sb3_vec_env import DodgeVecEnv
    except ModuleNotFoundError as error:
        raise ConfigError(f"sb3: needs {error.name}; pip install 'jaxdodge[sb3]'") from None
    envs = DodgeVecEnv(
        n_envs, render_mode=render_mode, render_width=render_width, render_height=render_height, **fields
    )
    envs.seed(seed)
    return VecMonitor(envs, None if monitor_dir is None else f"{Path(monitor_dir) / 'monitor.csv'}")


@dataclasses.dataclass(frozen=True)
class Sb3:
    """Train PPO, DQN or SAC of Stable-Baselines3 as a file of the original project says.

    Results go to RESULTS/<name of the file>/<time>/: sb3.yaml, models/best, models/checkpoints,
    models/final, logs. Needs pip install 'jaxdodge[sb3]'.
    """

    config: str
    """YAML file of the original project, or the name of a preset such as
    original/sac_level1_vector. The options of the game win over it."""
    algorithm: str | None = None
    """PPO, DQN or SAC; default: what the file says."""
    total_timesteps: int | None = None
    """Environment steps; default: what the file says, else 500,000."""
    num_envs: int | None = None
    """Environments; default: what the file says, else 1."""
    seed: int | None = None
    """Of environments and networks; default: what the file says, else 0."""
    results: Path = Path("results")
    """Folder for the folders of runs."""


def train_with_sb3(arguments: list[str]) -> int:
    """Parse, train, and return the exit status."""
    options, given = parse_options(Sb3, (GameConfig,), "jaxdodge sb3", arguments, {})
    file = resources.preset(options.config)
    values = {RENAMED.get(name, name): value for name, value in read_yaml(file).items()}
    own = {name: getattr(options, name) for name in ("algorithm", "total_timesteps", "num_envs", "seed")}
    values.update({name: value for name, value in own.items() if value is not None})
    told = algorithm_of(values)
    if told is None:
        raise ConfigError(f"algorithm: not in {file}; expected --algorithm PPO, DQN or SAC")
    algorithm = ALGORITHMS.check("algorithm", told[0]).upper()
    game = game_of(values, algorithm, given)
    for name, default in RUN_NAMES.items():
        values[name] = Number(int, 0 if name == "seed" else 1).check(name, values.get(name, default))
    check_results_folder(options.results, file.stem)
    print(f"{algorithm} of Stable-Baselines3, {values['total_timesteps']:,} steps", flush=True)
    fields = dataclasses.asdict(game)
    envs, evaluated = (
        make_vec_env(number, seed, **fields)
        for number, seed in (
            (values["num_envs"], values["seed"]),
            (min(10, values["n_eval_episodes"]), values["seed"] + 1_000_000),
        )
    )
    model, ignored = make_model(algorithm, values, envs)
    if ignored:
        print(ignored_line(ignored))
    (options.results / file.stem).mkdir(parents=True, exist_ok=True)
    folder = new_folder(options.results / file.stem)
    atomic_write(folder / "sb3.yaml", yaml.safe_dump({**values, **fields, "algorithm": algorithm}))
    print(f"run: {folder}", flush=True)
    return 0 if _learn(model, evaluated, folder, values) else 130


def make_model(algorithm: str, values: dict[str, Any], envs: "VecMonitor") -> tuple[Any, list[str]]:
    """The model of an algorithm with a file's settings, and the names that have no effect."""
    import stable_baselines3
    from stable_baselines3.common.utils import LinearSchedule

    kind = getattr(stable_baselines3, algorithm)
    arguments, ignored = sb3_arguments(values, inspect.signature(kind).parameters)
    for name, value in arguments.items():
        if isinstance(value, tuple) and value[0] == "linear":
            arguments[name] = LinearSchedule(value[1], 0.0, 1.0)
    space = envs.observation_space
    policy = "CnnPolicy" if len(space.shape or ()) == 3 else "MlpPolicy"
    if hasattr(space, "spaces"):
        policy = "MultiInputPolicy"
    return kind(policy, envs, seed=values["seed"], verbose=1, **arguments), ignored


def _learn(model: Any, evaluated: "VecMonitor", folder: Path, values: dict[str, Any]) -> bool:
    """Train, evaluate and save into a run's folder; returns whether it came to its end."""
    from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
    from stable_baselines3.common.logger import configure
    from stable_baselines3.common.vec_env import VecTransposeImage

    models, envs = folder / "models", values["num_envs"]
    model.set_logger(configure(f"{folder / 'logs'}", ["stdout", "csv"]))
    if isinstance(model.get_env(), VecTransposeImage):
        evaluated = VecTransposeImage(evaluated)
    callbacks = [
        EvalCallback(
            evaluated,
            n_eval_episodes=values["n_eval_episodes"],
            eval_freq=max(values["eval_freq"] // envs, 1),
            best_model_save_path=f"{models / 'best'}",
            log_path=f"{folder / 'logs'}",
        ),
        CheckpointCallback(max(values["save_freq"] // envs, 1), f"{models / 'checkpoints'}"),
    ]
    finished = False
    try:
        model.learn(values["total_timesteps"], callback=callbacks)
        finished = True
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    model.save(models / "final")
    print(f"saved: {models / 'final'}.zip, for stable_baselines3.{type(model).__name__}.load")
    return finished


if __name__ == "__main__":
    keep_compiled()
    sys.exit(guarded(train_with_sb3, sys.argv[1:]))
