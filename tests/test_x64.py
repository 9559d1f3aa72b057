"""JAX with 64-bit types enabled: the same types and bits as without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import pytest
import yaml
from played_envs import SMALL_IMAGE, assert_same, described
from tiny_runs import TINY

import jaxdodge
from jaxdodge.agents.program import Program
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig

SMALLEST = {"observation_mode": "topdown", "image_obs_width": 32, "image_obs_height": 32}
GAMES = {
    "vectors": {"level": 2, "action_space_type": "basic_3d", "frames_per_step": 3, "response_frame": 0},
    "stacked images": {"frame_stack": 2, "action_space_type": "discrete", **SMALLEST},
}
TRAININGS = {
    "vectors": ({"level": 2, "frames_per_step": 3, "response_frame": 0}, {"normalize_observations": True}),
    "images": (
        SMALLEST | {"image_obs_width": 72, "image_obs_height": 72, "frame_stack": 2},
        {"squint": 2, "encoder": "nature", "critic_observation": "state", "n_step": 3},
    ),
    "images in patches": (
        SMALLEST | {"image_obs_width": 45, "image_obs_height": 63, "frame_stack": 2},
        {"random_shift": False, "critic_observation": "state"},
    ),
    "indicators": (
        {"observation_mode": "with_thrower", "frames_per_step": 2},
        {"frames_per_step_jitter": 1, "response_frame_jitter": 1, "spawn_angle_jitter": 0.1},
    ),
}


def first_step(env, params):
    observation, state = env.reset(jax.random.key(0), params)
    # gymnax draws actions whose types follow the setting.
    action = jnp.zeros_like(env.action_space(params).sample(jax.random.key(1)))
    return observation, env.step(jax.random.key(2), state, action, params)


@pytest.mark.parametrize("fields", GAMES.values(), ids=GAMES)
def test_an_environment_has_the_same_types(fields):
    def outcome():
        env, params = jaxdodge.make(**fields)
        return described(jax.eval_shape(lambda params: first_step(env, params), params))

    narrow = outcome()
    with jax.enable_x64(True):
        assert outcome() == narrow


@pytest.mark.slow
def test_an_environment_gives_the_same_bits():
    narrow = first_step(*jaxdodge.make(**GAMES["vectors"]))
    with jax.enable_x64(True):
        assert_same(first_step(*jaxdodge.make(**GAMES["vectors"])), narrow)


@pytest.mark.slow
def test_gymnasium_environments_play():
    with jax.enable_x64(True):
        env = gymnasium.make("jaxdodge/Dodge-v0", level=2, **SMALL_IMAGE)
        vector = gymnasium.make_vec("jaxdodge/Dodge-v0", num_envs=2, level=2)
        for each in (env, vector):
            each.reset(seed=0)
            observation, *_ = each.step(each.action_space.sample())
            assert observation in each.observation_space


@pytest.mark.slow
@pytest.mark.parametrize(("game", "config"), TRAININGS.values(), ids=TRAININGS)
def test_an_epoch_has_the_same_types(game, config):
    own = {name: value for name, value in TINY.items() if name in TrainConfig.__dataclass_fields__}
    game = GameConfig(action_space_type="basic_3d", **game)
    train = TrainConfig(**own | config)

    def outcome():
        program = Program(game, train, 2)
        epoch = lambda state: program.trainer._epoch(state, program.params, jnp.int32(0), 2)  # noqa: E731
        return described(jax.eval_shape(epoch, program.shapes))

    narrow = outcome()
    with jax.enable_x64(True):
        assert outcome() == narrow


@pytest.mark.slow
def test_the_command_trains_the_same_run(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"total_timesteps": 1024}))
    finals = []
    for setting in ("0", "1"):
        command = [sys.executable, "-m", "jaxdodge.train", "--config", "tiny.yaml", "--results", setting]
        subprocess.run(command, cwd=tmp_path, env=os.environ | {"JAX_ENABLE_X64": setting}, check=True)
        (run,) = Path(tmp_path, setting, "tiny").iterdir()
        finals.append(json.loads((run / "summary.json").read_text())["final_evaluation"])
    # The game's bits are the same; sums of the networks may be taken in another order.
    assert finals[0].keys() == finals[1].keys()
    for name, value in finals[0].items():
        assert finals[1][name] == pytest.approx(value, rel=1e-4), name
