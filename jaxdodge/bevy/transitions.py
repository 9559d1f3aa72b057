"""Transitions from the rows of a fleet."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np


class Transition(NamedTuple):
    """One action of one server and its result."""

    server: int
    observation: Any
    """Element of the fleet's single observation space."""
    action: np.ndarray
    reward: float
    next_observation: Any
    terminated: bool
    truncated: bool
    """Also true for the last transition before a fault, because no later one continues it."""


class Transitions:
    """Turns the rows of a fleet's steps into transitions, those of each server in order.

    A transition is returned one row late, when it is known whether another one continues it.

    >>> observations, _ = fleet.reset()
    >>> transitions = Transitions(observations)
    >>> for _ in range(steps):
    ...     actions = policy(observations)
    ...     observations, *row = fleet.step(actions)
    ...     replay.extend(transitions.add(actions, observations, *row))
    >>> replay.extend(transitions.rest())

    Args:
        observations: observations returned by the fleet's `reset`.
    """

    def __init__(self, observations: Any):
        self._observations = observations
        self._last: dict[int, Transition] = {}

    def add(
        self,
        actions: np.ndarray,
        observations: Any,
        rewards: np.ndarray,
        terminations: np.ndarray,
        truncations: np.ndarray,
        info: dict[str, Any],
    ) -> list[Transition]:
        """Add a row; returns the transitions that it completes, at most one per server."""
        before, self._observations = self._observations, observations
        complete = []
        for server, valid in enumerate(info["valid"]):
            last = self._last.pop(server, None)
            if last is not None:
                complete.append(last._replace(truncated=last.truncated or bool(info["dropped"][server])))
            if valid:
                self._last[server] = Transition(
                    server,
                    _row(before, server),
                    np.array(actions[server]),
                    float(rewards[server]),
                    _row(observations, server),
                    bool(terminations[server]),
                    bool(truncations[server]),
                )
        return complete

    def rest(self) -> Iterator[Transition]:
        """Yield the last transition of every server, after the last row."""
        while self._last:
            yield self._last.popitem()[1]


def _row(observations: Any, server: int) -> Any:
    return jax.tree.map(lambda array: array[server].copy(), observations)
