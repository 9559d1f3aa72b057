"""Real transitions out of a fleet's rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np


class Transition(NamedTuple):
    """What one server really answered to one action."""

    server: int
    observation: Any
    """Of the fleet's single observation space."""
    action: np.ndarray
    reward: float
    next_observation: Any
    terminated: bool
    truncated: bool
    """Also of the last transition before a fault: no later one continues it."""


class Transitions:
    """Collects the rows of a fleet's steps and gives the real transitions back, those of a server in order.

    A transition comes back a row late, when it is known whether another one continues it.

    >>> observations, _ = fleet.reset()
    >>> transitions = Transitions(observations)
    >>> for _ in range(steps):
    ...     actions = policy(observations)
    ...     observations, *row = fleet.step(actions)
    ...     replay.extend(transitions.add(actions, observations, *row))
    >>> replay.extend(transitions.rest())

    Args:
        observations: that the fleet's `reset` returned.
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
        """The transitions that this row completes: of every server its last one."""
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
        """The last transition of every server, when nothing more will be added."""
        while self._last:
            yield self._last.popitem()[1]


def _row(observations: Any, server: int) -> Any:
    return jax.tree.map(lambda array: array[server].copy(), observations)
