"""Files of the original project for PPO and DQN: the arguments for SB3, and what `train` says."""

import inspect

import pytest

from jaxdodge.fields import ConfigError
from jaxdodge.runs.original_sb3 import algorithm_of, check_for_sac, game_of, sb3_arguments
from jaxdodge.runs.start import read_start

PPO = {
    "algorithm": "PPO",
    "learning_rate": "lin_3e-4",
    "n_steps": 2048,
    "batch_size": 64,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "net_arch": {"pi": [64], "vf": [64]},
    "ent_coef": "auto",
    "num_envs": 4,
    "eval_freq": 100,
    "level": 2,
    "transport": "grpc",
    "player_start_height": 2.0,
}
PARAMETERS = ("policy", "env", "learning_rate", "n_steps", "batch_size", "clip_range", "ent_coef", "seed")


def test_arguments():
    arguments, ignored = sb3_arguments(PPO, PARAMETERS)
    assert arguments == {
        "learning_rate": ("linear", 3e-4),
        "n_steps": 2048,
        "batch_size": 64,
        "clip_range": 0.2,
        "policy_kwargs": {"net_arch": {"pi": [64], "vf": [64]}},
    }
    assert ignored == ["gae_lambda", "ent_coef", "transport", "player_start_height"]
    sac = ("train_freq", "ent_coef")
    assert sb3_arguments({"train_freq": [4, "step"], "ent_coef": "auto"}, sac)[0] == {
        "train_freq": (4, "step"),
        "ent_coef": "auto",
    }


def test_games_have_the_servers_defaults_and_the_originals_timing():
    game = game_of({"level": 2, "n_steps": 8}, "PPO", {"frame_stack": 2})
    assert (game.level, game.spawn_angle_degrees, game.action_space_type) == (2, 60.0, "tilt_5d")
    assert (game.frames_per_step, game.response_frame, game.frame_stack) == (7, 0, 2)
    assert game_of({}, "DQN", {}).action_space_type == "discrete"
    with pytest.raises(
        ConfigError, match="action_space_type: invalid value 'full_6d'; expected discrete, for"
    ):
        game_of({"action_space_type": "6d"}, "DQN", {})


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"algorithm": "ppo"}, ("PPO", "algorithm")),
        ({"n_steps": 5, "clip_range": 0.2}, ("PPO", "clip_range")),
        ({"exploration_fraction": 0.1}, ("DQN", "exploration_fraction")),
        ({"level": 2, "target_update_interval": 1}, None),
    ],
)
def test_algorithms_are_recognised(values, found):
    assert algorithm_of(values) == found


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("{algorithm: dqn, level: 1}", "algorithm: invalid value 'dqn'"),
        ("{n_epochs: 10, level: 1}", "n_epochs: a setting of PPO"),
        ("{exploration_fraction: 0.1}", "exploration_fraction: a setting of DQN"),
    ],
)
def test_train_names_the_command(text, start, tmp_path):
    file = tmp_path / "theirs.yaml"
    file.write_text(text)
    algorithm = "PPO" if "PPO" in start else "DQN"
    with pytest.raises(ConfigError) as error:
        read_start(tmp_path, f"{file}", None, None, {})
    assert str(error.value) == (f"{start}; expected SAC; for {algorithm}: jaxdodge sb3 --config {file}")
    check_for_sac({"algorithm": "SAC", "exploration_fraction": 0.1}, None)


def test_every_name_of_the_originals_files_is_taken_or_ignored():
    """With the signatures of the installed library, where there is one."""
    sb3 = pytest.importorskip("stable_baselines3", reason="the extra sb3 is not installed")
    assert sb3_arguments(PPO, inspect.signature(sb3.PPO).parameters)[1] == [
        "ent_coef",
        "transport",
        "player_start_height",
    ]
