"""The collector, with a fleet that answers at once."""

import threading

import numpy as np

from jaxdodge.bevy.collector import Collector


class InstantFleet:
    """One server, whose fleet can be closed."""

    num_envs = 1

    def __init__(self):
        self._closed = False

    def reset(self):
        return np.zeros((1, 65), np.float32), {}

    def step(self, actions):
        assert not self._closed
        row = np.zeros(1, bool)
        return np.zeros((1, 65), np.float32), row * 0.0, row, row, {"valid": ~row, "dropped": row}

    def close(self):
        self._closed = True


def test_a_pause_that_the_end_cuts_short_is_not_late():
    acted = threading.Event()

    def act(observations, evaluated):
        acted.set()
        return np.zeros((1, 3), np.float32)

    collector = Collector(InstantFleet(), act, pause=60.0, limit=10)
    assert acted.wait(10)
    collector.end()
    assert collector.late_seconds() == 0
    assert collector.failed is None
