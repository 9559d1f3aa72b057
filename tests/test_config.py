"""The fields of the configuration: ranges, names, and the one line that refuses a value."""

import dataclasses
import re

import numpy as np
import pytest

from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError

# Field: the accepted ends of its range.
ENDS = {
    "level": (1, 2),
    "player_speed": (1e-9, 50),
    "sprint_multiplier": (0, 10),
    "projectile_speed": (1e-9, 50),
    "projectile_spawn_interval": (1e-9, 60),
    "max_projectiles": (1, 1000),
    "spawn_angle_degrees": (1e-9, 180),
    "thrower_delay_seconds": (1e-9, 10),
    "image_obs_width": (32, 512),
    "image_obs_height": (32, 512),
    "collision_penalty": (-3e38, 0),
    "survival_reward": (-100, 100),
    "dodge_bonus_threshold": (1e-9, 50),
    "dodge_bonus_multiplier": (0, 100),
    "max_episode_steps": (1, 1_000_000),
    "fps": (4, 1000),
    "frames_per_step": (1, 1000),
    "response_frame": (0, 1),
    "frame_stack": (1, 64),
    "projectile_slots": (1, 100_000),
}
WHOLE = {
    "level",
    "max_projectiles",
    "image_obs_width",
    "image_obs_height",
    "max_episode_steps",
    "frames_per_step",
    "response_frame",
    "frame_stack",
    "projectile_slots",
}
# These ranges do not contain their lower end, zero.
ABOVE_ZERO = {
    "player_speed",
    "projectile_speed",
    "projectile_spawn_interval",
    "spawn_angle_degrees",
    "thrower_delay_seconds",
    "dodge_bonus_threshold",
}
FLAGS = ("image_grayscale", "observe_previous_action")
NAMES = ("action_space_type", "observation_mode")
NOT_SETTABLE = ("player_start_height", "projectile_spawn_distance", "random_spawn_position")


def just_outside(name: str) -> tuple[float, float]:
    """The nearest values below and above the range: the next whole number, the next float32."""
    low, high = ENDS[name]
    if name in WHOLE:
        return low - 1, high + 1
    below = 0.0 if name in ABOVE_ZERO else float(np.nextafter(np.float32(low), np.float32(-np.inf)))
    below = -1e39 if name == "collision_penalty" else below
    return below, float(np.nextafter(np.float32(high), np.float32(np.inf)))


def refusal(**fields) -> str:
    """The one line with which the fields are refused."""
    with pytest.raises(ConfigError) as caught:
        GameConfig.from_mapping(fields)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_tables_name_every_field():
    assert {*ENDS, *FLAGS, *NAMES} == {field.name for field in dataclasses.fields(GameConfig)}


@pytest.mark.parametrize("end", [0, 1], ids=["low", "high"])
@pytest.mark.parametrize("name", ENDS)
def test_the_ends_of_a_range_are_accepted(name, end):
    value = ENDS[name][end]
    found = getattr(GameConfig(**{name: value}), name)
    assert found == value
    assert type(found) is (int if name in WHOLE else float)


@pytest.mark.parametrize("end", [0, 1], ids=["low", "high"])
@pytest.mark.parametrize("name", ENDS)
def test_values_just_outside_a_range_are_refused(name, end):
    value = just_outside(name)[end]
    assert refusal(**{name: value}).startswith(f"{name}: invalid value {value!r}; expected ")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), True, np.True_, "fast", [1], {}]
)
@pytest.mark.parametrize("name", ENDS)
def test_what_is_no_finite_number_is_refused(name, value):
    assert refusal(**{name: value}).startswith(f"{name}: invalid value {value!r}; expected ")


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_whole_numbers_have_no_fraction(name):
    assert refusal(**{name: 1.0}).startswith(f"{name}: invalid value 1.0; expected a whole number, ")


@pytest.mark.parametrize("name", ENDS)
def test_numbers_beyond_all_floats_are_refused(name):
    assert refusal(**{name: 10**400}).startswith(f"{name}: invalid value 1000")


@pytest.mark.parametrize("value", [np.float32(30), np.int64(30), 30])
def test_numbers_of_other_kinds_are_accepted(value):
    assert GameConfig(spawn_angle_degrees=value).spawn_angle_degrees == 30.0
    assert type(GameConfig(spawn_angle_degrees=value).spawn_angle_degrees) is float


@pytest.mark.parametrize("name", ["level", "spawn_angle_degrees"])
def test_text_is_no_number(name):
    assert refusal(**{name: "2"}).startswith(f"{name}: invalid value '2'; expected a ")


@pytest.mark.parametrize("value", [1, 0, "true", "yes", 1.0, []])
@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_true_or_false(name, value):
    assert refusal(**{name: value}) == f"{name}: invalid value {value!r}; expected true or false"
    assert getattr(GameConfig(**{name: True}), name) is True
    assert getattr(GameConfig(**{name: False}), name) is False


ACTION_NAMES = {
    "discrete": ("discrete",),
    "basic_3d": ("basic_3d", "basic3d", "3d"),
    "basic_4d_jump": ("basic_4d_jump", "basic4d", "basic_4d", "jump4d", "4d_jump"),
    "tilt_5d": ("tilt_5d", "tilt5d", "5d"),
    "full_6d": ("full_6d", "full6d", "6d"),
}
MODE_NAMES = {
    "standard": ("standard", "default"),
    "with_thrower": ("with_thrower", "thrower", "with_thrower_indicator"),
    "topdown": ("topdown", "topdown_image", "image"),
}


@pytest.mark.parametrize(
    ("field", "alias", "name"),
    [("action_space_type", alias, name) for name, aliases in ACTION_NAMES.items() for alias in aliases]
    + [("observation_mode", alias, name) for name, aliases in MODE_NAMES.items() for alias in aliases],
)
def test_aliases_in_any_case(field, alias, name):
    for written in (alias, alias.upper(), alias.title()):
        assert getattr(GameConfig(**{field: written}), field) == name


@pytest.mark.parametrize("value", ["", "2d", "tilt-5d", " discrete", 3, None, True, ["discrete"]])
def test_unknown_names_are_refused_with_all_names(value):
    for field, names in (("action_space_type", ACTION_NAMES), ("observation_mode", MODE_NAMES)):
        message = refusal(**{field: value})
        start = f"{field}: invalid value {value!r}; expected "
        assert message.startswith(start)
        listed = message.removeprefix(start).split(", ")
        assert sorted(listed) == sorted(alias for aliases in names.values() for alias in aliases)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"player_speed": 0}, "player_speed: invalid value 0; expected a number, 0 < value <= 50"),
        (
            {"sprint_multiplier": -0.5},
            "sprint_multiplier: invalid value -0.5; expected a number, 0 <= value <= 10",
        ),
        ({"collision_penalty": 1}, "collision_penalty: invalid value 1; expected a number, value <= 0"),
        (
            {"image_obs_width": 31},
            "image_obs_width: invalid value 31; expected a whole number, 32 <= value <= 512",
        ),
        (
            {"fps": 3.9},
            "fps: invalid value 3.9; expected a number, 4 <= value <= 1000 (the game caps a frame at 250 ms)",
        ),
        (
            {"frames_per_step": 3, "response_frame": 4},
            "response_frame: invalid value 4; expected a whole number, 0 <= value <= frames_per_step (3)",
        ),
        (
            {"projectile_spawn_interval": 4e-10},
            "projectile_spawn_interval: invalid value 4e-10; it rounds to 0 ns",
        ),
        ({"thrower_delay_seconds": 4e-10}, "thrower_delay_seconds: invalid value 4e-10; it rounds to 0 ns"),
    ],
)
def test_refusals_word_by_word(fields, message):
    assert refusal(**fields) == message


@pytest.mark.parametrize("value", [np.zeros((3, 3)), "a\nb", 10**400, object])
def test_any_value_is_refused_in_one_line(value):
    assert refusal(player_speed=value).startswith("player_speed: ")


@pytest.mark.parametrize("name", NOT_SETTABLE)
def test_fields_that_are_not_settable(name):
    assert refusal(**{name: 1.0}).startswith(f"{name}: not settable")
    with pytest.raises(ConfigError, match=f"^{name}: not settable"):
        GameConfig().configure(**{name: 1.0})


@pytest.mark.parametrize(
    ("name", "meant"), [("player_sped", "player_speed"), ("frame_per_step", "frames_per_step"), ("zzz", None)]
)
def test_unknown_fields_are_refused_with_the_nearest(name, meant):
    message = refusal(**{name: 1})
    hint = f"; did you mean {meant}?" if meant else ""
    assert message.startswith(f"{name}: no such field of the game{hint} (expected: level, action_space")
    with pytest.raises(ConfigError, match=re.escape(message)):
        GameConfig().configure(**{name: 1})
