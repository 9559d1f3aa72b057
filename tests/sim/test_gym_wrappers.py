"""All of Gymnasium's wrappers for vector environments, beside the same ones over its own."""

import copy

import gymnasium
import jax
import numpy as np
import pytest
from gym_envs import CONFIGURATIONS, CONTINUOUS, NUM_ENVS, equal
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as wrappers

from jaxdodge.sim.gym import DodgeGymEnv, DodgeVectorEnv

# Numbers of a game; those that share all others share what is compiled.
SHORT = {"max_episode_steps": 5}
WIDE, UNIT = Box(-200, 200, (65,), np.float32), Box(-1, 1, (3,), np.float32)
RESCALED = np.full(65, -1, np.float32), np.full(65, 1, np.float32)
ARGUMENTS = {
    "TransformObservation": lambda: {"func": double, "single_observation_space": WIDE},
    "VectorizeTransformObservation": lambda: {
        "wrapper": gymnasium.wrappers.TransformObservation,
        "func": double,
        "observation_space": WIDE,
    },
    "FilterObservation": lambda: {"filter_keys": ["previous_action"]},
    "ResizeObservation": lambda: {"shape": (18, 20)},
    "ReshapeObservation": lambda: {"shape": (13, 5)},
    "RescaleObservation": lambda: {"min_obs": RESCALED[0], "max_obs": RESCALED[1]},
    "DtypeObservation": lambda: {"dtype": np.float64},
    "TransformAction": lambda: {"func": half, "single_action_space": UNIT},
    "VectorizeTransformAction": lambda: {
        "wrapper": gymnasium.wrappers.TransformAction,
        "func": half,
        "action_space": UNIT,
    },
    "RescaleAction": lambda: {"min_action": -2.0, "max_action": 2.0},
    "TransformReward": lambda: {"func": half},
    "VectorizeTransformReward": lambda: {"wrapper": gymnasium.wrappers.TransformReward, "func": half},
    "ClipReward": lambda: {"min_reward": -0.5, "max_reward": 0.5},
    "ArrayConversion": lambda: {"env_xp": np, "target_xp": np},
}
IMAGE, DICT = "image", "image and previous action"
OTHER_GAMES = {"GrayscaleObservation": IMAGE, "ResizeObservation": IMAGE, "FilterObservation": DICT}
NEEDED = {
    "ResizeObservation": "cv2",
    "NumpyToTorch": "torch",
    "JaxToTorch": "torch",
    "HumanRendering": "pygame",
    "RecordVideo": "moviepy",
}


def double(observation):
    return observation * 2


def half(value):
    return value / 2


def marked(name: str):
    return pytest.param(name, marks=pytest.mark.slow) if name in OTHER_GAMES else name


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("name", [marked(name) for name in wrappers.__all__])
def test_wrapper(name, mode, tmp_path, monkeypatch):
    if name in NEEDED:
        pytest.importorskip(NEEDED[name], reason=f"{NEEDED[name]} is not installed")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    fields = CONFIGURATIONS[OTHER_GAMES[name]] if name in OTHER_GAMES else CONTINUOUS
    fields = {**fields, **SHORT, "render_mode": "rgb_array", "render_width": 40}
    arguments = ARGUMENTS.get(name, dict)()
    if name == "RecordVideo":
        arguments = {"video_folder": f"{tmp_path}", "step_trigger": lambda step: step == 0, "video_length": 3}
    both = (
        DodgeVectorEnv(NUM_ENVS, autoreset_mode=mode, **fields),
        SyncVectorEnv([lambda: DodgeGymEnv(**fields)] * NUM_ENVS, autoreset_mode=mode),
    )
    mine, its = (wrap(name, env, arguments) for env in both)
    if isinstance(its, Exception):
        assert type(mine) is type(its), "Gymnasium allows it for its own no more than for ours"
        return
    assert mine.observation_space == its.observation_space
    assert equal(plain(mine.reset(seed=3)), plain(its.reset(seed=3)))
    mine.action_space.seed(0)
    ends = 0
    for step in range(8):
        actions = mine.action_space.sample()
        if "ToTorch" in name:
            actions = plain(wrappers.NumpyToTorch(both[0]).action_space.sample())
        # VectorizeTransformAction writes into what it is given.
        results = [plain(env.step(copy.deepcopy(actions))) for env in (mine, its)]
        assert equal(*results), f"step {step}"
        ends += np.sum(results[0][3])
    assert ends == NUM_ENVS, "the run must see an end of all episodes"
    mine.close()
    if name == "RecordVideo":
        assert [path.suffix for path in tmp_path.iterdir()].count(".mp4") >= 1


def wrap(name: str, env, arguments):
    try:
        return getattr(wrappers, name)(env, **arguments)
    except Exception as error:  # compared with the other one's
        return error


def plain(result):
    """Without the times of episodes, and PyTorch's tensors as arrays."""
    result = jax.tree.map(lambda leaf: leaf.numpy() if hasattr(leaf, "numpy") else leaf, result)
    for info in result[-1] if isinstance(result[-1], list) else [result[-1]]:
        info.get("episode", {}).pop("t", None)
    return result
