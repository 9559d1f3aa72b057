"""Training files of the original project keep their meaning, or are an error in one line."""

from pathlib import Path
from typing import Any

import pytest

from jaxdodge import yaml_text
from jaxdodge.fields import ConfigError, read_yaml
from jaxdodge.runs.folder import split
from jaxdodge.runs.original import ignored_line, is_original, translate

FILES = sorted((Path(__file__).parents[2] / "configs" / "original").glob("*.yaml"))
LEFT_OUT = {
    "level": 1,
    "action_space_type": "tilt_5d",
    "observation_mode": "standard",
    "player_speed": 5.0,
    "sprint_multiplier": 2.0,
    "spawn_angle_degrees": 60.0,
    "thrower_delay_seconds": 0.5,
    "image_obs_width": 256,
    "image_obs_height": 256,
    "image_grayscale": False,
    "collision_penalty": -100.0,
    "survival_reward": 1.0,
    "dodge_bonus_threshold": 2.0,
    "dodge_bonus_multiplier": 0.5,
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("n_envs: 8", {"num_envs": 8}),
        ("num_envs: 8", {"num_envs": 8}),
        ("{level: 2, spawn_angle_degrees: 30}", {"level": 2, "spawn_angle_degrees": 30}),
        ("{frame_stack: 4, image_grayscale: true}", {"frame_stack": 4, "image_grayscale": True}),
        ("{projectile_speed: 6, max_episode_steps: 500}", {"projectile_speed": 6, "max_episode_steps": 500}),
        ("{frames_per_step: 7, seed: 3}", {"frames_per_step": 7, "seed": 3}),
        ("learning_rate: 3e-4", {"learning_rate": 3e-4}),
        ("learning_rate: lin_7e-4", {"learning_rate": 7e-4, "learning_rate_schedule": "linear"}),
        ("ent_coef: auto_0.1", {"ent_coef": "auto_0.1"}),
        ("ent_coef: 0.2", {"ent_coef": 0.2}),
        ("{eval_freq: 10, save_freq: 20, n_eval_episodes: 5}",) * 2,
        ("train_freq: 4", {"train_freq": 4}),
        ("train_freq: [4, step]", {"train_freq": 4}),
        ("gradient_steps: -1", {"gradient_steps": 1}),
        (
            "{gradient_steps: -1, train_freq: [4, step], n_envs: 8}",
            {"gradient_steps": 32, "train_freq": 4, "num_envs": 8},
        ),
        ("net_arch: [400, 300]", {"net_arch": [400, 300]}),
        ("net_arch: {pi: [400, 300], qf: [400, 300]}", {"net_arch": [400, 300]}),
    ],
)
def test_translation(text, expected):
    expected = yaml_text.load(expected) if isinstance(expected, str) else expected
    assert translate(original(text)) == (LEFT_OUT | expected, [])


def test_train_freq_as_a_tuple():
    assert translate({"algorithm": "SAC", "train_freq": (2, "step")})[0]["train_freq"] == 2


def test_what_has_no_effect_is_returned_in_the_order_of_the_file():
    values = original("""
        transport: grpc
        gamma: 0.98
        target_update_interval: 4
        exploration_fraction: 0.1
        clip_range: 0.2
        player_start_height: 2.0
        1: number
        device: cuda
    """)
    own, ignored = translate(values)
    assert own == LEFT_OUT | {"gamma": 0.98}
    assert ignored == [
        "transport",
        "target_update_interval",
        "exploration_fraction",
        "clip_range",
        "player_start_height",
        "1",
        "device",
    ]


def test_the_line_about_what_has_no_effect():
    assert ignored_line(["device", "two\nlines"]) == "ignored (no effect here): device, two lines"


@pytest.mark.parametrize("algorithm", ["SAC", "sac", "Sac"])
def test_sac_in_any_case(algorithm):
    assert translate({"algorithm": algorithm}) == (LEFT_OUT, [])


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("algorithm: PPO", "algorithm: invalid value 'PPO'; expected SAC"),
        ("algorithm: dqn", "algorithm: invalid value 'dqn'; expected SAC"),
        ("algorithm:", "algorithm: invalid value None; expected SAC"),
        ("algorithm: [SAC]", "algorithm: invalid value ['SAC']; expected SAC"),
        (
            "train_freq: [1, episode]",
            "train_freq: invalid value [1, 'episode']; expected a whole number, 1 <= value, "
            "or [number, step]",
        ),
        (
            "train_freq: [1]",
            "train_freq: invalid value [1]; expected a whole number, 1 <= value, or [number, step]",
        ),
        ("train_freq: [0, step]", "train_freq: invalid value 0; expected a whole number, 1 <= value"),
        ("train_freq: true", "train_freq: invalid value True; expected a whole number, 1 <= value"),
        (
            "{gradient_steps: -1, n_envs: many}",
            "n_envs: invalid value 'many'; expected a whole number, 1 <= value",
        ),
        (
            "net_arch: {pi: [256], qf: [400]}",
            "net_arch: invalid value {'pi': [256], 'qf': [400]}; expected a list, or the same for pi and qf",
        ),
        (
            "net_arch: {pi: [256]}",
            "net_arch: invalid value {'pi': [256]}; expected a list, or the same for pi and qf",
        ),
        (
            "{n_envs: 1, num_envs: 2}",
            "n_envs: the same as num_envs, which is given too; expected one of them",
        ),
    ],
)
def test_refusals(text, refusal):
    with pytest.raises(ConfigError) as error:
        translate(original(text))
    assert str(error.value) == refusal


def test_only_the_algorithm_makes_a_file_an_original():
    assert is_original({"algorithm": "PPO"})
    assert not is_original({"n_envs": 8, "train_freq": 1, "device": "cuda"})


def test_our_defaults_do_not_show_through():
    ours = {"level": 2, "spawn_angle_degrees": 30.0, "action_space_type": "basic_3d", "frames_per_step": 7}
    game, _ = split(ours | translate({"algorithm": "SAC"})[0])
    assert (game.level, game.spawn_angle_degrees, game.action_space_type) == (1, 60.0, "tilt_5d")
    assert game.frames_per_step == 7


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_originals_runs(path):
    values = read_yaml(path)
    assert is_original(values)
    own, ignored = translate(values)
    assert ignored == []
    game, train = split(own)
    level, kind, *rest = path.stem.removeprefix("sac_level").split("_")
    assert game.level == int(level)
    assert game.observation_mode == {"vector": "standard", "pixels": "topdown"}[kind]
    if rest:
        assert game.spawn_angle_degrees == float(rest[0].removeprefix("angle"))
    if kind == "pixels":
        assert (game.image_obs_width, game.image_obs_height, game.image_grayscale) == (84, 84, True)
    assert (train.num_envs, train.learning_rate, train.net_arch) == (1, 3e-4, (256, 256))


def test_there_are_seven_of_the_originals_runs():
    assert len(FILES) == 7


def original(text: str) -> dict[str, Any]:
    """Values of a file of the original with this content; `algorithm` is added if it has none."""
    return {"algorithm": "SAC"} | (yaml_text.load(text) or {})
