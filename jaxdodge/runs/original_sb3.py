"""Training files of the original project as arguments of Stable-Baselines3 (SB3)."""

from collections.abc import Collection
from typing import Any

from jaxdodge.config import GAME_FIELDS, NOT_SETTABLE, GameConfig
from jaxdodge.fields import ConfigError, Name
from jaxdodge.runs.options import DEFAULTS
from jaxdodge.runs.original import GAME_DEFAULTS
from jaxdodge.yaml_text import read_text

ALGORITHMS = Name(("ppo", "dqn", "sac"))
# What a file says of a run besides game and algorithm, and what is taken if it does not.
RUN_NAMES = {
    "num_envs": 1,
    "total_timesteps": 500_000,
    "eval_freq": 10_000,
    "save_freq": 100_000,
    "n_eval_episodes": 5,
    "seed": 0,
}
# Names of settings that only one algorithm has, for files that do not name theirs.
_TELLING = {
    "exploration_fraction": "DQN",
    "exploration_initial_eps": "DQN",
    "exploration_final_eps": "DQN",
    "n_epochs": "PPO",
    "gae_lambda": "PPO",
    "clip_range": "PPO",
    "vf_coef": "PPO",
}


def algorithm_of(values: dict[str, Any]) -> tuple[str, str] | None:
    """The algorithm of a file, and the name that tells it; None if nothing does."""
    if "algorithm" in values:
        return f"{values['algorithm']}".upper(), "algorithm"
    return next(((_TELLING[name], name) for name in values if name in _TELLING), None)


def check_for_sac(values: dict[str, Any], config: str | None) -> None:
    """Raises ConfigError with the command to use if a file is for another algorithm than SAC."""
    algorithm, name = algorithm_of(values) or ("SAC", "")
    if algorithm in ("PPO", "DQN"):
        what = f"invalid value {values[name]!r}" if name == "algorithm" else f"a setting of {algorithm}"
        raise ConfigError(f"{name}: {what}; expected SAC; for {algorithm}: jaxdodge sb3 --config {config}")


def game_of(values: dict[str, Any], algorithm: str, given: dict[str, Any]) -> GameConfig:
    """The game of a file: what it leaves out has the server's defaults, and the original's timing.

    Args:
        values: of the file.
        algorithm: DQN takes discrete actions by default, as it has no others.
        given: fields that win over the file's.
    """
    actions = {"action_space_type": "discrete"} if algorithm == "DQN" else {}
    own = {name: value for name, value in values.items() if name in GAME_FIELDS and name not in NOT_SETTABLE}
    game = GameConfig.from_mapping({**DEFAULTS, **GAME_DEFAULTS, **actions, **own, **given})
    if algorithm == "DQN" and game.action_space_type != "discrete":
        raise ConfigError(
            f"action_space_type: invalid value {game.action_space_type!r}; expected discrete, for DQN"
        )
    if algorithm == "SAC" and game.action_space_type == "discrete":
        raise ConfigError("action_space_type: invalid value 'discrete'; expected another one, for SAC")
    return game


def sb3_arguments(values: dict[str, Any], parameters: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Arguments for the class of an algorithm.

    Args:
        values: of the file, with our names in place of RENAMED.
        parameters: names that the class takes.

    Returns:
        the arguments, in which "lin_X" is a pair ("linear", X); and the names without effect.
    """
    arguments = {
        name: _argument(value)
        for name, value in values.items()
        if name in parameters and name not in RUN_NAMES and name not in ("policy", "env", "verbose")
    }
    if isinstance(arguments.get("ent_coef"), str) and "clip_range" in parameters:
        del arguments["ent_coef"]  # "auto" is SAC's
    used = {*arguments, *RUN_NAMES, *GAME_FIELDS, "algorithm", "net_arch"} - {*NOT_SETTABLE}
    if "net_arch" in values:
        arguments["policy_kwargs"] = {"net_arch": values["net_arch"]}
    return arguments, [str(name) for name in values if name not in used]


def _argument(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("lin_"):
        return "linear", read_text(value.removeprefix("lin_"))
    return tuple(value) if isinstance(value, list) else value
