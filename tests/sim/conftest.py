"""Environments that several test files play."""

import pytest
from arenas import DENSE

import jaxdodge


@pytest.fixture(scope="session")
def dense():
    return jaxdodge.make(**DENSE, action_space_type="basic_3d")


@pytest.fixture(scope="session")
def with_thrower():
    return jaxdodge.make(**DENSE, observation_mode="with_thrower", thrower_delay_seconds=0.3)
