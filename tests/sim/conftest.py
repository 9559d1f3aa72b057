"""Environments that several test files play."""

import pytest
from gym_envs import CONTINUOUS, NUM_ENVS
from played_envs import DENSE

import jaxdodge
from jaxdodge.sim.gym import DodgeVectorEnv


@pytest.fixture(scope="session")
def dense():
    return jaxdodge.make(**DENSE, action_space_type="basic_3d")


@pytest.fixture(scope="session")
def with_thrower():
    return jaxdodge.make(**DENSE, observation_mode="with_thrower", thrower_delay_seconds=0.3)


@pytest.fixture
def vector():
    return DodgeVectorEnv(NUM_ENVS, **CONTINUOUS)
