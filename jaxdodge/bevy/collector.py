"""Plays on a fleet in a thread of its own, at the pace of the servers; queues the transitions."""

import collections
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxdodge.bevy.fleet import Fleet
from jaxdodge.bevy.transitions import Transition, Transitions

# One episode in so many is played by the policy that is evaluated.
EVALUATED_EVERY = 4
# Steps over which the lateness is reported.
TIMED_STEPS = 10_000


@dataclasses.dataclass(frozen=True)
class PlayedEpisode:
    """An episode on a server that came to its end."""

    total_reward: float
    responses: int
    survived: bool
    evaluated: bool
    """Played by the policy that is evaluated."""


class Collector:
    """Never waits for whoever takes its transitions. Ends after `limit` of them, or at a failure.

    Args:
        fleet: not yet reset; the collector closes it.
        act: from observations of the fleet, and bool (servers,) where the policy is evaluated, to
            actions. It is called in the collector's thread.
        pause: seconds from the response to a step until the next step, for servers in real time.
        limit: how many transitions to collect.
    """

    def __init__(self, fleet: Fleet, act: Callable[[Any, np.ndarray], np.ndarray], pause: float, limit: int):
        self._fleet = fleet
        self._act = act
        self._pause = pause
        self._limit = limit
        self._queue: queue.SimpleQueue[Transition] = queue.SimpleQueue()
        self._ending = threading.Event()
        self.failed: BaseException | None = None
        self.episodes: collections.deque[PlayedEpisode] = collections.deque()
        """Those that have ended; whoever reads them removes them."""
        self._late_seconds: collections.deque[float] = collections.deque(maxlen=TIMED_STEPS)
        self._thread = threading.Thread(target=self._run, name="jaxdodge collector", daemon=True)
        self._thread.start()

    def take(self, most: int, seconds: float) -> list[Transition]:
        """Up to `most` transitions, those of each server in order; waits for the first."""
        taken: list[Transition] = []
        try:
            while len(taken) < most:
                taken.append(self._queue.get(timeout=0 if taken else seconds))
        except queue.Empty:
            pass
        return taken

    def late_seconds(self) -> float:
        """Seconds from the end of the pause until the step is sent: the 99th percentile of the
        latest steps. Without a pause, the time that it takes to act.
        """
        return float(np.quantile(self._late_seconds.copy() or [0.0], 0.99))

    def notices(self) -> Iterator[str]:
        """New lines about servers that failed or came back, each once."""
        while self._fleet.notices:
            yield self._fleet.notices.popleft()

    def summary(self) -> str:
        """What the servers did, in one line."""
        return self._fleet.summary()

    def end(self) -> None:
        """End the thread and the fleet; always returns."""
        self._ending.set()
        self._fleet.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._play()
        except BaseException as error:  # shown where the transitions are taken
            if not self._ending.is_set():
                self.failed = error

    def _play(self) -> None:
        collected = 0
        observations, _ = self._fleet.reset()
        ends = time.monotonic() + self._pause
        transitions = Transitions(observations)
        episodes = [_Episode(server) for server in range(self._fleet.num_envs)]
        while collected < self._limit and not self._ending.is_set():
            actions = self._act(observations, np.array([each.evaluated for each in episodes]))
            # The policy computes during the pause, so that it does not lengthen the step.
            self._ending.wait(max(0.0, ends - time.monotonic()))
            # The end of the collector cuts the pause short.
            self._late_seconds.append(max(0.0, time.monotonic() - ends))
            observations, rewards, terminations, truncations, info = self._fleet.step(actions)
            ends = time.monotonic() + self._pause
            for episode, *row in zip(
                episodes, info["valid"], rewards, terminations, truncations, strict=True
            ):
                self.episodes.extend(episode.add(*row))
            complete = transitions.add(actions, observations, rewards, terminations, truncations, info)
            collected += len(complete)
            for transition in complete:
                self._queue.put(transition)


class _Episode:
    """The present episode of a server."""

    def __init__(self, server: int):
        self._number = server
        self._begin()

    @property
    def evaluated(self) -> bool:
        """Whether the policy is evaluated in it; not at the same time on all servers."""
        return self._number % EVALUATED_EVERY == 0

    def _begin(self) -> None:
        self._number += 1
        self._reward, self._responses = 0.0, 0

    def add(self, valid: bool, reward: float, terminated: bool, truncated: bool) -> list[PlayedEpisode]:
        """Add a row; returns the episode if it has come to its end.

        One that a fault breaks off is forgotten.
        """
        if not valid:
            if self._responses:
                self._begin()
            return []
        self._reward += float(reward)
        self._responses += 1
        if not (terminated or truncated):
            return []
        ended = PlayedEpisode(self._reward, self._responses, not terminated, self.evaluated)
        self._begin()
        return [ended]
