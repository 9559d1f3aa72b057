"""Stable-Baselines3: the library's own checks and wrappers, and its own `DummyVecEnv` as reference.

Needs `pip install 'jaxdodge[sb3]'`, which is large; a job of its own runs it on CI.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gym_envs import CONFIGURATIONS, CONTINUOUS, NUM_ENVS, equal

pytest.importorskip("stable_baselines3", reason="the extra sb3 is not installed")

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
    is_vecenv_wrapped,
)

from jaxdodge.sb3 import make_vec_env, train_with_sb3
from jaxdodge.sim.gym import DodgeGymEnv
from jaxdodge.sim.sb3_vec_env import DodgeVecEnv

RENDERED = {**CONTINUOUS, "render_mode": "rgb_array", "render_width": 40}
EXAMPLES = Path(__file__).parents[2] / "examples"


def dummy() -> DummyVecEnv:
    return DummyVecEnv([lambda: DodgeGymEnv(**CONTINUOUS)] * NUM_ENVS)


@pytest.fixture
def envs() -> DodgeVecEnv:
    return DodgeVecEnv(NUM_ENVS, **RENDERED)


def test_the_single_environment_passes_the_check_of_sb3():
    check_env(DodgeGymEnv(**RENDERED))


@pytest.mark.parametrize("wrapper", [None, VecMonitor, lambda envs: VecFrameStack(envs, 3), VecNormalize])
def test_it_is_sb3s_own_over_single_environments(wrapper):
    """All bits of what is returned, through several episodes; without a wrapper and with each."""
    mine, its = DodgeVecEnv(NUM_ENVS, **CONTINUOUS), dummy()
    assert mine.seed(7) == its.seed(7)
    if wrapper is not None:
        mine, its = wrapper(mine), wrapper(its)
    assert equal(mine.reset(), its.reset())
    mine.action_space.seed(1)
    ends = 0
    for step in range(80):
        actions = np.stack([mine.action_space.sample() for _ in range(NUM_ENVS)])
        (observations, rewards, ended, infos), (*others, its_infos) = mine.step(actions), its.step(actions)
        assert equal((observations, rewards, ended), tuple(others)), f"step {step}"
        for row in range(NUM_ENVS):
            assert infos[row]["TimeLimit.truncated"] == its_infos[row]["TimeLimit.truncated"]
            if ended[row]:
                ends += 1
                expected = its_infos[row]
                for info in (infos[row], expected):
                    info.pop("episode", {}).pop("t", None)
                assert equal(infos[row], expected)
        assert equal(mine.reset_infos, its.reset_infos)
    assert ends >= NUM_ENVS
    assert equal(mine.reset(), its.reset())


def test_attributes_and_methods(envs):
    assert envs.get_attr("projectile_spawn_interval", [0, 2]) == [0.1, 0.1]
    assert envs.get_attr("render_mode") == ["rgb_array"] * NUM_ENVS
    assert envs.has_attr("action_space")
    assert not envs.has_attr("no_such_attribute")
    envs.set_attr("difficulty", 3, indices=[1])
    assert envs.get_attr("difficulty", 1) == [3]
    assert not envs.has_attr("difficulty")
    with pytest.raises(AttributeError, match="level: cannot be changed; expected new environments"):
        envs.set_attr("level", 1)
    assert envs.env_method("has_wrapper_attr", "level", indices=0) == [True]
    assert envs.env_is_wrapped(VecMonitor) == [False] * NUM_ENVS


def test_images(envs):
    envs.reset()
    images = envs.get_images()
    assert [image.shape for image in images] == [(40, 40, 3)] * NUM_ENVS
    assert equal(envs.env_method("render"), list(images))
    assert envs.render().shape == (80, 80, 3)


def test_video_recorder(envs, tmp_path):
    pytest.importorskip("moviepy", reason="moviepy is not installed")
    recorder = VecVideoRecorder(envs, f"{tmp_path}", lambda step: step == 0, video_length=5)
    recorder.reset()
    for _ in range(6):
        recorder.step(np.zeros((NUM_ENVS, 3)))
    recorder.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


def test_make_vec_env_monitors(tmp_path):
    envs = make_vec_env(NUM_ENVS, seed=7, monitor_dir=f"{tmp_path}", **CONTINUOUS)
    assert is_vecenv_wrapped(envs, VecMonitor)
    other = DodgeVecEnv(NUM_ENVS, **CONTINUOUS)
    other.seed(7)
    assert equal(envs.reset(), other.reset())
    assert (tmp_path / "monitor.csv").read_text().startswith("#")
    with pytest.raises(ValueError, match="level: invalid value 7"):
        make_vec_env(level=7)


@pytest.mark.parametrize(("kind", "fields"), [(PPO, CONTINUOUS), (DQN, CONFIGURATIONS["discrete"])])
def test_algorithms_learn(kind, fields):
    steps = {"n_steps": 16, "batch_size": 32} if kind is PPO else {"learning_starts": 16, "batch_size": 8}
    model = kind("MlpPolicy", make_vec_env(NUM_ENVS, seed=0, **fields), seed=0, **steps)
    model.learn(256)
    assert model.num_timesteps == 256
    assert model.ep_info_buffer


def test_sbx_learns():
    sbx = pytest.importorskip("sbx", reason="sbx is not installed")
    model = sbx.PPO("MlpPolicy", make_vec_env(NUM_ENVS, **CONTINUOUS), n_steps=16, batch_size=32)
    model.learn(64)


@pytest.mark.parametrize("name", ["ppo_level1", "ppo_level2", "dqn_level1", "dqn_level2"])
def test_the_examples_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{name}.yaml"
    file.write_text(f"{(EXAMPLES / file.name).read_text()}\nmax_episode_steps: 20\n")
    small = (
        "n_steps: 16\nlearning_starts: 16\neval_freq: 64\nsave_freq: 64\nn_eval_episodes: 2\nbatch_size: 16\n"
    )
    lines = file.read_text().splitlines()
    kept = [line for line in lines if line.split(":")[0] not in small]
    file.write_text("\n".join([*kept, small]))
    assert train_with_sb3(["--config", f"{file}", "--total-timesteps", "64", "--num-envs", "2"]) == 0
    (run,) = (tmp_path / "results" / name).iterdir()
    found = {f"{path.relative_to(run)}" for path in run.rglob("*.*")}
    assert {"sb3.yaml", "models/final.zip", "models/best/best_model.zip", "logs/progress.csv"} <= found
    assert f"saved: {run.relative_to(tmp_path)}/models/final.zip" in capsys.readouterr().out


@pytest.mark.slow
def test_the_script_runs(tmp_path):
    text = (EXAMPLES / "sb3_ppo.py").read_text()
    for old, new in (("200_000", "64"), ("n_steps=256", "n_steps=4"), ("batch_size=512", "batch_size=64")):
        assert old in text
        text = text.replace(old, new)
    text = text.replace('"frames_per_step": 7', '"frames_per_step": 7, "max_episode_steps": 9')
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "return " in done.stdout
