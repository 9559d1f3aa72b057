"""Training files of the original project, translated to our own names and values.

The original trains SAC of Stable-Baselines3 (SB3 below) on the real server. So what its files leave
out has SB3's default or the server's, not ours. Source of the names: "Training files of the
original project" in the specification (`docs/api.md`).
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import NOT_SERVER_FIELDS, GameConfig
from jaxdodge.fields import ConfigError, Number
from jaxdodge.files import one_line
from jaxdodge.yaml_text import read_text

RENAMED = {"n_envs": "num_envs"}
# The server's game when it starts, without the timing, which no file of the original sets.
GAME_DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(GameConfig)
    if field.name not in NOT_SERVER_FIELDS and field.default is not None
}
# SB3's defaults; what SB3 does not have is switched off.
TRAIN_DEFAULTS: dict[str, Any] = {
    "num_envs": 1,
    "learning_starts": 100,
    "buffer_size": 1_000_000,
    "train_freq": 1,
    "gradient_steps": 1,
    "batch_size": 256,
    "learning_rate": 3e-4,
    "learning_rate_schedule": "constant",
    "gamma": 0.99,
    "tau": 0.005,
    "net_arch": [256, 256],
    "ent_coef": "auto",
    "n_step": 1,
    "reward_scale": 1.0,
    "policy_averaging": 1.0,
    "normalize_observations": False,
    "critic_observation": "same",
    "random_shift": False,
    "frame_time_jitter": 0.0,
    "shortest_episode": 1.0,
    "collision_penalty_factor": 1.0,
    "policy_delay": 1,
    "target_entropy": -1.0,
}


def is_original(values: dict[str, Any]) -> bool:
    """Whether a file's values are a training file of the original project.

    Only `algorithm` decides. `n_envs` must not: mistyped for `num_envs` in a file of ours, it would
    silently replace all defaults, instead of raising an error that names `num_envs`.
    """
    return "algorithm" in values


def translate(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Translate a training file of the original project.

    Args:
        values: a mapping that `is_original`. Our own names in it keep their meaning.

    Returns:
        Our names and values, checked only where they are converted here; and the names without
        effect, in the file's order.

    Raises:
        ConfigError: another algorithm than SAC, or a value that only SB3 supports.
    """
    algorithm = values["algorithm"]
    if not (isinstance(algorithm, str) and algorithm.lower() == "sac"):
        raise _invalid("algorithm", algorithm, "SAC")
    for theirs, ours in RENAMED.items():
        if theirs in values and ours in values:
            raise ConfigError(f"{theirs}: the same as {ours}, which is given too; expected one of them")
    known = {field.name for config in (GameConfig, TrainConfig) for field in dataclasses.fields(config)}
    own, ignored = GAME_DEFAULTS | TRAIN_DEFAULTS, []
    for name, value in values.items():
        our_name = RENAMED.get(name, name)
        if our_name in known:
            own[our_name] = value
        elif name != "algorithm":
            ignored.append(str(name))
    rate = own["learning_rate"]
    if isinstance(rate, str) and rate.startswith("lin_"):
        own |= {"learning_rate": read_text(rate.removeprefix("lin_")), "learning_rate_schedule": "linear"}
    own["train_freq"] = _vector_steps(own["train_freq"])
    own["net_arch"] = _widths(own["net_arch"])
    if own["gradient_steps"] == -1:
        # In SB3: as many updates as environment steps since the last update.
        own["gradient_steps"] = own["train_freq"] * Number(int, 1).check("n_envs", own["num_envs"])
    return own, ignored


def ignored_line(names: Iterable[str]) -> str:
    """The line that lists the names of a file that have no effect."""
    return f"ignored (no effect here): {', '.join(map(one_line, names))}"


def _vector_steps(train_freq: Any) -> int:
    """SB3's train_freq, a number or `[number, unit]`, in vector steps."""
    rule = Number(int, 1)
    if not isinstance(train_freq, (list, tuple)):
        return rule.check("train_freq", train_freq)
    if len(train_freq) != 2 or train_freq[1] != "step":
        raise _invalid("train_freq", train_freq, f"{rule.expected()}, or [number, step]")
    return rule.check("train_freq", train_freq[0])


def _widths(net_arch: Any) -> Any:
    """SB3's net_arch, a list or one each for actor (pi) and critics (qf), as one list."""
    if not isinstance(net_arch, dict):
        return net_arch
    if set(net_arch) != {"pi", "qf"} or net_arch["pi"] != net_arch["qf"]:
        raise _invalid("net_arch", net_arch, "a list, or the same for pi and qf")
    return net_arch["pi"]


def _invalid(name: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"{name}: invalid value {value!r}; expected {expected}")
