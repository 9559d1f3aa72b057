"""Configurations of the Gymnasium environments, and how what they return compares."""

import numpy as np
from gymnasium.utils.env_checker import data_equivalence

SMALL_IMAGE = {"observation_mode": "topdown", "image_obs_width": 40, "image_obs_height": 36}
# Episodes are short, so that every run meets both of their ends.
SHORT = {"level": 2, "spawn_angle_degrees": 30.0, "projectile_spawn_interval": 0.1, "max_episode_steps": 52}
CONFIGURATIONS = {
    "continuous": {**SHORT, "action_space_type": "basic_3d"},
    "discrete": {
        **SHORT,
        "action_space_type": "discrete",
        "observation_mode": "with_thrower",
        "frame_stack": 3,
        "frames_per_step": 2,
        "response_frame": 0,
        "max_episode_steps": 27,
    },
    "image": {**SHORT, **SMALL_IMAGE},
    "image and previous action": {
        **SHORT,
        **SMALL_IMAGE,
        "image_grayscale": True,
        "frame_stack": 2,
        "observe_previous_action": True,
    },
}
CONTINUOUS = CONFIGURATIONS["continuous"]
DISCRETE = {**SHORT, "action_space_type": "discrete"}
NUM_ENVS = 4


def equal(one, other) -> bool:
    return data_equivalence(one, other, exact=True)


def run(environment, steps: int, action=(0.3, 0.2, -1.0)) -> list:
    return [environment.step(np.asarray(action, np.float32)) for _ in range(steps)]
