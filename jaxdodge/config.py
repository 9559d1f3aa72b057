"""The configuration of a game: every field by its server name, with its
range, and the two level presets.

Source of fields, ranges and presets: the specification's "Levels and configuration"
(`docs/design.md`). Nothing here imports JAX, so that `--help` and refusals are instant.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jaxdodge.fields import (
    ConfigError,
    Flag,
    Name,
    Number,
    check_fields,
    check_names,
    checked,
    from_mapping,
    read_yaml,
)

SERVER_EPISODE_STEPS = 1000
"""The server's episode limit, which `configure` cannot change."""
ENVIRONMENT_ID = "jaxdodge/Dodge-v0"
"""As Gymnasium and gymnax know the game."""

ACTION_SPACES = Name(
    ("discrete", "basic_3d", "basic_4d_jump", "tilt_5d", "full_6d"),
    {
        "basic3d": "basic_3d",
        "3d": "basic_3d",
        "basic4d": "basic_4d_jump",
        "basic_4d": "basic_4d_jump",
        "jump4d": "basic_4d_jump",
        "4d_jump": "basic_4d_jump",
        "tilt5d": "tilt_5d",
        "5d": "tilt_5d",
        "full6d": "full_6d",
        "6d": "full_6d",
    },
)
OBSERVATION_MODES = Name(
    ("standard", "with_thrower", "topdown"),
    {
        "default": "standard",
        "thrower": "with_thrower",
        "with_thrower_indicator": "with_thrower",
        "topdown_image": "topdown",
        "image": "topdown",
    },
)

# What a level decides. `random_spawn_position` can be set in no other way.
LEVELS: dict[int, dict[str, Any]] = {
    1: {
        "projectile_speed": 3.0,
        "projectile_spawn_interval": 2.0,
        "max_projectiles": 10,
        "random_spawn_position": False,
    },
    2: {
        "projectile_speed": 4.5,
        "projectile_spawn_interval": 0.5,
        "max_projectiles": 25,
        "random_spawn_position": True,
    },
}
NOT_SETTABLE = {
    "player_start_height": "not settable (always 1.0)",
    "projectile_spawn_distance": "not settable (always 20)",
    "random_spawn_position": "not settable on its own; level 1 has it off, level 2 on",
}


@dataclasses.dataclass(frozen=True)
class GameConfig:
    """Everything that defines a game. Frozen, checked when made; raises ConfigError.

    Fields left at None are derived: from the level's preset, or as their description says.
    Afterwards every field holds a value. Lengths are metres, times seconds, angles degrees.
    """

    level: int = checked(Number(int, 1, 2), 1)
    """Preset: 1 (a throw every 2 s from straight ahead) or 2 (every 0.5 s from an arc)."""
    action_space_type: str = checked(ACTION_SPACES, "tilt_5d")
    """discrete, basic_3d, basic_4d_jump, tilt_5d or full_6d."""
    observation_mode: str = checked(OBSERVATION_MODES, "standard")
    """standard (65 numbers), with_thrower (69) or topdown (an image)."""
    player_speed: float = checked(Number(float, 0, 50, above_low=True), 5.0)
    """Speed at full deflection without sprint, m/s."""
    sprint_multiplier: float = checked(Number(float, 0, 10), 2.0)
    """A full sprint multiplies the speed by 1 + this."""
    projectile_speed: float = checked(Number(float, 0, 50, above_low=True), None)
    """Accepted as by the server, without effect on the physics."""
    projectile_spawn_interval: float = checked(Number(float, 0, 60, above_low=True), None)
    """Seconds between throws; default: the level's."""
    max_projectiles: int = checked(Number(int, 1, 1000), None)
    """Accepted as by the server, without effect: it never caps projectiles."""
    spawn_angle_degrees: float = checked(Number(float, 0, 180, above_low=True), 60.0)
    """Half angle of the arc that level 2 throws from."""
    thrower_delay_seconds: float = checked(Number(float, 0, 10, above_low=True), 0.5)
    """with_thrower: how long an indicator shows before its projectile appears."""
    image_obs_width: int = checked(Number(int, 32, 512), 256)
    """topdown: pixels."""
    image_obs_height: int = checked(Number(int, 32, 512), 256)
    """topdown: pixels."""
    image_grayscale: bool = checked(Flag(), False)
    """topdown: one channel instead of three."""
    collision_penalty: float = checked(Number(float, high=0), -100.0)
    """Reward of a frame after the collision."""
    survival_reward: float = checked(Number(float, -100, 100), 1.0)
    """Reward of a frame without one."""
    dodge_bonus_threshold: float = checked(Number(float, 0, 50, above_low=True), 2.0)
    """Distance of the nearest projectile below which the bonus is paid, m."""
    dodge_bonus_multiplier: float = checked(Number(float, 0, 100), 0.5)
    """Bonus per metre below the threshold."""
    max_episode_steps: int = checked(Number(int, 1, 1_000_000), SERVER_EPISODE_STEPS)
    """Steps after which an episode is truncated."""
    fps: float = checked(Number(float, 4, 1000, note="the game caps a frame at 250 ms"), 60.0)
    """Frames per second; a frame lasts round(1e9 / fps) ns."""
    frames_per_step: int = checked(Number(int, 1, 1000), 1)
    """Frames between two actions."""
    response_frame: int = checked(Number(int, 0, 1000), None)
    """Frame of a step that is returned; 0: the one before the action; default: frames_per_step."""
    observe_previous_action: bool = checked(Flag(), None)
    """Append the last action to the observation; default: if response_frame < frames_per_step."""
    frame_stack: int = checked(Number(int, 1, 64), 1)
    """Observations stacked into one, oldest first, zeros before the first."""
    projectile_slots: int = checked(Number(int, 1, 100_000), None)
    """Projectiles that one environment has room for; default: enough that none is dropped."""

    def __post_init__(self) -> None:
        check_fields(self)
        preset = LEVELS[self.level]
        derived = {name: preset[name] for name in preset if name != "random_spawn_position"}
        derived["response_frame"] = self.frames_per_step
        for name, value in derived.items():
            self._set_if_none(name, value)
        if self.response_frame > self.frames_per_step:
            raise ConfigError(
                f"response_frame: invalid value {self.response_frame}; expected a whole number, "
                f"0 <= value <= frames_per_step ({self.frames_per_step})"
            )
        for name in ("projectile_spawn_interval", "thrower_delay_seconds"):
            if nanoseconds(getattr(self, name)) == 0:
                raise ConfigError(f"{name}: invalid value {getattr(self, name)!r}; it rounds to 0 ns")
        self._set_if_none("observe_previous_action", self.response_frame < self.frames_per_step)
        self._set_if_none("projectile_slots", self._enough_projectile_slots())

    def _set_if_none(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "GameConfig":
        """A configuration from names and values; unknown names are refused with ConfigError."""
        check_names(mapping, GAME_FIELDS, "the game")
        return from_mapping(cls, mapping, "the game")

    @classmethod
    def from_yaml(cls, path: str | Path) -> "GameConfig":
        """A configuration from a flat YAML mapping; raises ConfigError."""
        return cls.from_mapping(read_yaml(path))

    def to_yaml(self) -> str:
        """All fields as YAML; `from_yaml` gives the same configuration back."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)

    def configure(self, **fields: Any) -> "GameConfig":
        """This configuration after the server's `configure` with these fields; raises ConfigError.

        A `level` replaces everything that the server's preset holds, the
        other fields are set after it.
        """
        check_names(fields, GAME_FIELDS, "the game")
        kept = {name: getattr(self, name) for name in NOT_SERVER_FIELDS} if "level" in fields else None
        before = kept if kept is not None else dataclasses.asdict(self)
        before = {name: value for name, value in before.items() if name != "projectile_slots"}
        return GameConfig(**{**before, **fields})

    @property
    def random_spawn_position(self) -> bool:
        """Whether throws come from an arc (level 2) or from a line (level 1)."""
        return LEVELS[self.level]["random_spawn_position"]

    @property
    def frame_nanoseconds(self) -> int:
        """Duration of a frame, ns."""
        return round(1e9 / self.fps)

    @property
    def thrower_slots(self) -> int:
        """Indicators that can be pending at once: delay over interval, plus one."""
        return math.ceil(self.thrower_delay_seconds / self._seconds_between_throws()) + 1

    def _seconds_between_throws(self) -> float:
        """The timer fires at most once a frame."""
        return max(self.projectile_spawn_interval, self.frame_nanoseconds / 1e9)

    def _enough_projectile_slots(self) -> int:
        """Longest flight over the interval, plus two, rounded up to what fills vector registers.

        Longest flights over all throws and player positions, from 4 to 240 frames per second: level
        1 6.3 s; level 2 4.1 s up to 45 degrees and 6.5 s beyond. Beyond 45 degrees about one throw
        in 500 at a player in a corner comes to rest in the arena and stays until the next reset;
        those may overflow the slots, which `info["dropped_projectiles"]` counts.
        """
        narrow = self.random_spawn_position and self.spawn_angle_degrees <= 45
        needed = math.ceil((4.1 if narrow else 6.5) / self._seconds_between_throws()) + 2
        return math.ceil(needed / 8) * 8


NOT_SERVER_FIELDS = (
    "max_episode_steps",
    "fps",
    "frames_per_step",
    "response_frame",
    "observe_previous_action",
    "frame_stack",
)
# What a compiled program takes as numbers, once the slots are given, and so
# can be given other values of.
TRACED_FIELDS = (
    "projectile_speed",
    "projectile_spawn_interval",
    "max_projectiles",
    "spawn_angle_degrees",
    "thrower_delay_seconds",
    "collision_penalty",
    "survival_reward",
    "dodge_bonus_threshold",
    "dodge_bonus_multiplier",
    "max_episode_steps",
)
GAME_FIELDS = {field.name: "" for field in dataclasses.fields(GameConfig)} | NOT_SETTABLE
# What the server's `configure` sets.
SERVER_FIELDS = tuple(
    name for name in GAME_FIELDS if name not in (*NOT_SERVER_FIELDS, *NOT_SETTABLE, "projectile_slots")
)


def step_limit_reached(episode_steps: Any, limit: Any) -> Any:
    """Whether an episode of so many steps is truncated: bool of Python, NumPy or JAX."""
    return episode_steps >= limit


def restarts_timer(fields: Collection[str]) -> bool:
    """Whether a `configure` with these fields sets the spawn timer's duration and restarts it."""
    return "level" in fields or "projectile_spawn_interval" in fields


def nanoseconds(seconds: float) -> int:
    """Seconds as whole nanoseconds: the float32 value, rounded (1.2 -> 1 200 000 048)."""
    return int(np.rint(np.float64(np.float32(seconds)) * 1e9))


# For games that share a program: one value of each of TRACED_FIELDS, for all of them.
SAME_NUMBERS = {name: getattr(GameConfig(), name) for name in TRACED_FIELDS}
