"""Rewards of a Stable-Baselines3 environment, scaled."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper


class ScaledRewards(VecEnvWrapper):
    """The environments of `envs`, with rewards times `scale`."""

    def __init__(self, envs: VecEnv, scale: float):
        self.scale = np.float32(scale)
        super().__init__(envs)

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, ended, infos = self.venv.step_wait()
        return observations, rewards * self.scale, ended, infos
