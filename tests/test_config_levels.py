"""Levels, the server's `configure`, derived values and YAML."""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.config import GameConfig, nanoseconds
from jaxdodge.fields import ConfigError, Flag, Name

RECORDINGS = Path(__file__).parents[1] / "parity" / "recordings"

# Nine levels of aliases stand for 10^9 values.
ALIASES = "a0: &a0 1\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
BOTH_LEVELS = {
    "player_speed": 5.0,
    "sprint_multiplier": 2.0,
    "spawn_angle_degrees": 60.0,
    "observation_mode": "standard",
    "thrower_delay_seconds": 0.5,
    "image_obs_width": 256,
    "image_obs_height": 256,
    "image_grayscale": False,
    "collision_penalty": -100.0,
    "survival_reward": 1.0,
    "dodge_bonus_threshold": 2.0,
    "dodge_bonus_multiplier": 0.5,
    "action_space_type": "tilt_5d",
}
PRESETS = {
    1: {"projectile_speed": 3.0, "projectile_spawn_interval": 2.0, "max_projectiles": 10, "level": 1},
    2: {"projectile_speed": 4.5, "projectile_spawn_interval": 0.5, "max_projectiles": 25, "level": 2},
}
OURS = {
    "max_episode_steps": 1000,
    "fps": 60.0,
    "frames_per_step": 1,
    "response_frame": 1,
    "observe_previous_action": False,
    "frame_stack": 1,
}
OTHER = {
    "level": 1,
    "player_speed": 1.5,
    "sprint_multiplier": 0.5,
    "spawn_angle_degrees": 10.0,
    "observation_mode": "topdown",
    "thrower_delay_seconds": 0.25,
    "image_obs_width": 40,
    "image_obs_height": 50,
    "image_grayscale": True,
    "collision_penalty": -1.0,
    "survival_reward": 2.0,
    "dodge_bonus_threshold": 3.0,
    "dodge_bonus_multiplier": 4.0,
    "action_space_type": "discrete",
    "projectile_speed": 6.0,
    "projectile_spawn_interval": 0.75,
    "max_projectiles": 7,
}
OUR_OTHER = {
    "max_episode_steps": 50,
    "fps": 30.0,
    "frames_per_step": 7,
    "response_frame": 3,
    "observe_previous_action": False,
    "frame_stack": 4,
}


def fields_of(config: GameConfig) -> dict:
    return {name: value for name, value in dataclasses.asdict(config).items() if name != "projectile_slots"}


@pytest.mark.parametrize("level", PRESETS)
def test_the_presets_of_the_levels(level):
    config = GameConfig(level=level)
    assert fields_of(config) == {**BOTH_LEVELS, **PRESETS[level], **OURS}
    assert config.random_spawn_position is (level == 2)


@pytest.mark.parametrize("level", PRESETS)
def test_a_level_replaces_the_servers_configuration_and_keeps_ours(level):
    config = GameConfig(**OTHER, **OUR_OTHER)
    assert fields_of(config.configure(level=level)) == {**BOTH_LEVELS, **PRESETS[level], **OUR_OTHER}
    after = config.configure(player_speed=9, level=level, max_projectiles=3)
    changed = {**BOTH_LEVELS, **PRESETS[level], **OUR_OTHER, "player_speed": 9.0, "max_projectiles": 3}
    assert fields_of(after) == changed
    assert after.random_spawn_position is (level == 2)


@pytest.mark.parametrize("name", sorted(OTHER.keys() - {"level"}))
def test_configure_without_a_level_sets_only_what_it_names(name):
    before = GameConfig(level=2, **OUR_OTHER)
    after = before.configure(**{name: OTHER[name]})
    assert fields_of(after) == {**fields_of(before), name: OTHER[name]}
    assert after.random_spawn_position
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.player_speed = 1.0


# Derived values


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1.2, 1_200_000_048),
        (0.13, 129_999_995),
        (0.05, 50_000_001),
        (0.73, 730_000_019),
        (0.7, 699_999_988),
        (2.0, 2_000_000_000),
        (60, 60_000_000_000),
        (1e-9, 1),
        (5.1e-10, 1),
        (4.9e-10, 0),
    ],
)
def test_seconds_in_whole_nanoseconds(seconds, expected):
    assert nanoseconds(seconds) == expected


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(60, 16_666_667), (30, 33_333_333), (4, 250_000_000), (1000, 1_000_000), (144, 6_944_444)],
)
def test_a_frame_lasts_whole_nanoseconds(fps, expected):
    assert GameConfig(fps=fps).frame_nanoseconds == expected


@pytest.mark.parametrize(
    ("frames", "response", "observed"),
    [(1, None, False), (7, None, False), (7, 7, False), (7, 6, True), (7, 0, True), (1, 0, True)],
)
def test_the_response_and_the_observed_action_by_default(frames, response, observed):
    given_response = {} if response is None else {"response_frame": response}
    config = GameConfig(frames_per_step=frames, **given_response)
    assert config.response_frame == (frames if response is None else response)
    assert config.observe_previous_action is observed
    opposite = GameConfig(frames_per_step=frames, **given_response, observe_previous_action=not observed)
    assert opposite.observe_previous_action is not observed


FRAMES = [path for path in sorted(RECORDINGS.glob("*.npz")) if not path.stem.startswith("api_")]


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: path.stem)
def test_the_default_slots_hold_every_recording(path):
    """A configuration sets no smaller number of slots than those before
    it: theirs are still flying.
    """
    with np.load(path) as file:
        meta = json.loads(str(file["meta"]))
        dt, projectiles, throwers = file["dt_ns"], file["projectile_count"], file["thrower_count"]
    config = GameConfig(fps=min(1000, 1e9 / np.median(dt[1:])))
    slots = [(config.projectile_slots, config.thrower_slots)] * len(dt)
    for frame, command in meta["commands"]:
        if command["kind"] in ("configure", "set_level"):
            config = config.configure(**command.get("fields", {"level": command.get("level")}))
            slots[frame:] = [(config.projectile_slots, config.thrower_slots)] * (len(dt) - frame)
    most_projectiles, most_throwers = np.maximum.accumulate(np.array(slots)).T
    assert (projectiles <= most_projectiles).all()
    assert (throwers <= most_throwers).all()


def test_the_default_slots_follow_the_interval():
    slots = [
        GameConfig(level=2, projectile_spawn_interval=interval).projectile_slots
        for interval in (1, 0.1, 0.05)
    ]
    assert slots == sorted(set(slots))
    assert GameConfig(level=2, projectile_slots=3).projectile_slots == 3
    assert GameConfig(level=2).configure(projectile_spawn_interval=0.05).projectile_slots > slots[0]


# YAML


def values(rule):
    """All that a field accepts."""
    if isinstance(rule, Flag):
        return st.booleans()
    if isinstance(rule, Name):
        return st.sampled_from([*rule.names, *rule.aliases])
    if rule.kind is int:
        return st.integers(rule.low, rule.high)
    # Smaller intervals are no whole nanosecond.
    low = 1e-9 if rule.above_low else max(rule.low, -3e38)
    return st.floats(low, rule.high)


VALID = st.fixed_dictionaries(
    {}, optional={field.name: values(field.metadata["rule"]) for field in dataclasses.fields(GameConfig)}
).map(
    lambda fields: {
        **fields,
        "response_frame": min(fields.get("response_frame", 1), fields.get("frames_per_step", 1)),
    }
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(fields=VALID)
def test_yaml_gives_the_same_configuration_back(tmp_path_factory, fields):
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    config = GameConfig(**fields)
    path.write_text(config.to_yaml())
    assert GameConfig.from_yaml(path) == config


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- level\n- 2\n", "must be a YAML mapping of names to values, not list"),
        ("", "must be a YAML mapping of names to values, not NoneType"),
        ("level 2", "must be a YAML mapping of names to values, not str"),
        ("level: [2", "not valid YAML ("),
        ("a: b: c", "not valid YAML ("),
        ("\t- x", "not valid YAML ("),
        ("level: 2024-13-45", "not valid YAML ("),
        (b"level: \xff\xfe", "not valid YAML ("),
        ("level: 1\nfps: 60\nlevel: 2\n", "not valid YAML (duplicate key 'level' in line 3)"),
        ("[" * 20_000, "not valid YAML (nested more than 50 levels deep)"),
        (ALIASES, "not valid YAML (1234567911 values; expected at most 100000)"),
        ("level: " + "9" * 5000, "not valid YAML (a number of 5000 digits"),
        ("level: &a [*a]", "not valid YAML (recursive alias in line 1)"),
    ],
)
def test_a_file_that_is_no_yaml_mapping(tmp_path, text, reason):
    path = tmp_path / "game.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        GameConfig.from_yaml(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.yaml", "No such file or directory"), ("", "Is a directory")]
)
def test_a_file_that_cannot_be_read(tmp_path, name, reason):
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / name}: cannot be read ({reason})")):
        GameConfig.from_yaml(tmp_path / name)


@pytest.mark.parametrize("text", ["010", "100:00", "0o10", "1_0:0", "'2'", "12e-1"])
def test_a_number_is_written_in_decimals(tmp_path, text):
    """YAML 1.1 reads 010 as 8 and 100:00 as 6000."""
    path = tmp_path / "game.yaml"
    path.write_text(f"max_projectiles: {text}\n")
    with pytest.raises(ConfigError, match=r"^max_projectiles: invalid value .*; expected a whole number"):
        GameConfig.from_yaml(path)


@pytest.mark.parametrize("kind", ["device", "pipe", "large"])
def test_what_is_no_regular_file_of_some_size_is_not_read(tmp_path, kind):
    path = Path("/dev/zero") if kind == "device" else tmp_path / "game.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "large":
        with path.open("wb") as file:
            file.truncate(10**10)
    reason = "larger than 5,000,000 bytes" if kind == "large" else "not a regular file"
    with pytest.raises(ConfigError, match=re.escape(f"{path}: cannot be read ({reason})")):
        GameConfig.from_yaml(path)


def test_yaml_numbers_with_an_exponent(tmp_path):
    """YAML 1.1 reads 3e-4 and 1e2 as text."""
    path = tmp_path / "game.yaml"
    path.write_text("dodge_bonus_multiplier: 3e-4\nlevel: 2\nmax_projectiles: 0x10\nmax_episode_steps: 1e2\n")
    assert GameConfig.from_yaml(path) == GameConfig(
        level=2, dodge_bonus_multiplier=3e-4, max_projectiles=16, max_episode_steps=100
    )
    path.write_text("player_speed: 3e4\n")
    with pytest.raises(
        ConfigError, match=re.escape("player_speed: invalid value 30000; expected a number, 0 < ")
    ):
        GameConfig.from_yaml(path)


def test_yaml_with_an_unknown_field(tmp_path):
    path = tmp_path / "game.yaml"
    path.write_text("levle: 2\n")
    with pytest.raises(ConfigError, match=re.escape("levle: no such field of the game; did you mean level?")):
        GameConfig.from_yaml(path)
