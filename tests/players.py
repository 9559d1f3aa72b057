"""Play on a fleet that checks every row and keeps the transitions."""

import itertools
from pathlib import Path

import jax
import numpy as np
from server_log import Answered, read_log

from jaxdodge.bevy.fleet import Fleet
from jaxdodge.bevy.transitions import Transition, Transitions

# Two of the same actions could not be told apart in a server's log.
SEEDS = itertools.count()


class Player:
    """Random play that keeps the transitions."""

    def __init__(self, fleet: Fleet):
        self.fleet = fleet
        self.random = np.random.default_rng(next(SEEDS))
        self.observations, self.info = fleet.reset(seed=0)
        self._transitions = Transitions(self.observations)
        self.stored: list[Transition] = []
        self.ended = np.zeros(fleet.num_envs, bool)

    def step(self):
        self.actions = self.random.uniform(-1, 1, self.fleet.action_space.shape).astype(np.float32)
        before = self.observations
        row = self.fleet.step(self.actions)
        self.stored += self._transitions.add(self.actions, *row)
        self.observations, rewards, terminations, truncations, self.info = row
        invalid = ~self.info["valid"]
        assert not rewards[invalid].any()
        assert not terminations[invalid].any()
        away = ~self.info["_episode_steps"]
        for old, new in zip(*map(jax.tree.leaves, (before, self.observations)), strict=True):
            np.testing.assert_array_equal(new[away], old[away])
        assert truncations[away].all()
        assert not truncations[invalid & ~away].any()
        self.ended = terminations | truncations
        return row

    def until(self, name: str, server: int, most: int = 100_000) -> int:
        """Steps until `info` says so of a server."""
        for steps in range(1, most):
            self.step()
            if name in self.info and self.info[name][server]:
                return steps
        raise AssertionError(f"no {name} in {most} steps")

    def checked(self, log: Path) -> int:
        """The number of stored transitions, each one of the servers' logs."""
        answered = Answered(read_log(log))
        for transition in [*self.stored, *self._transitions.rest()]:
            answered.check(transition)
        return answered.steps
