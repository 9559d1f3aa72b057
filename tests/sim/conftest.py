"""Environments that several test files play."""

import pytest
from arenas import DENSE
from gym_arenas import ARENAS, CONTINUOUS

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
    return DodgeVectorEnv(ARENAS, **CONTINUOUS)
