"""When the responses of a session were published, and where the player can have been meanwhile."""

import itertools

import numpy as np

from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Number
from jaxdodge.parity.flight import Fit
from jaxdodge.parity.intervals import Interval
from jaxdodge.recordings.session import Session
from jaxdodge.sim.state import player_start

LONGEST_COUNTED = 0.25
"""Seconds that a frame counts at most, however long it lasts."""


class Clock:
    """The time between publications: exact where projectiles tell it, else from when requests were sent."""

    def __init__(self, session: Session, intervals: list[Interval], frame_seconds: float) -> None:
        self.frame_seconds = frame_seconds
        """The usual length of a frame."""
        fits = [interval.fit if interval.fit and interval.fit.error <= 1 else None for interval in intervals]
        lengths = [_longest(fit) for fit in fits if fit and fit.frames]
        self._sent, self._received = session.arrays["sent_s"], session.arrays["received_s"]
        walls = np.diff(self._received)
        # A publication may be older than a frame where a machine stalls.
        stale = [abs(wall - fit.seconds) for wall, fit in zip(walls, fits, strict=True) if fit]
        longest = max([2 * frame_seconds, *lengths, min(max(stale, default=0.0), LONGEST_COUNTED)])
        self.longest_frame = float(longest)
        """What no frame exceeds of those that projectiles tell, and no publication is older."""
        self._position = session.arrays["observation"][:, :2].astype(float)
        self._known = np.concatenate([[0], np.cumsum([fit is not None for fit in fits])])
        self._seconds = np.concatenate([[0.0], np.cumsum([fit.seconds if fit else 0.0 for fit in fits])])

    def steady(self, first: Number, last: Number) -> bool:
        """Whether projectiles tell all the time between two responses."""
        return bool(self._known[last] - self._known[first] == last - first)

    def between(self, first: Number, last: Number) -> tuple[float, float]:
        """Least and largest time between the publications of two responses, seconds."""
        if self.steady(first, last):
            exact = float(self._seconds[last] - self._seconds[first])
            return exact, exact
        return self._wall(first, last)

    def longest_between(self, first: int, last: int) -> float:
        """The longest time between the requests of neighbours, from before the first response on, seconds."""
        return float(np.max(np.diff(self._sent[max(first - 1, 0) : last + 1]), initial=0))

    def longest_frame_before(self, response: Number) -> float:
        """What no frame between a response and the one before exceeds, nor the one that it is of."""
        if response > 0 and self.steady(response - 1, response):
            return self.longest_frame
        # A machine may stall unseen.
        wall = self._wall(response - 1, response)[1] if response > 0 else LONGEST_COUNTED
        return max(self.longest_frame, min(wall, LONGEST_COUNTED))

    def stalled(self, first: int, last: int) -> bool:
        """Whether the game's clock fell behind: frames count 250 ms at most, however long they last."""
        steps = itertools.pairwise(range(first, last + 1))
        return any(self.steady(*step) and self.between(*step)[1] < self._wall(*step)[0] for step in steps)

    def _wall(self, first: Number, last: Number) -> tuple[float, float]:
        # What is answered was published a frame before the request at the earliest.
        low = self._sent[last] - self.longest_frame - self._received[first]
        high = self._received[last] - self._sent[first] + self.longest_frame
        return max(float(low), 0.0), float(high)

    def player_between(self, response: int, ago: float, handled: Handled, delayed: bool):
        """Least and largest x and y, each (2,), of the player some time before a response was published.

        Args:
            response: the response.
            ago: seconds.
            handled: the commands that moved the player.
            delayed: whether the time is known to a few frames only; else it is after the response before.
        """
        if delayed:
            slack = 2 * self.longest_frame
            if self.between(0, response)[0] <= ago + slack:
                return np.full(2, -np.inf), np.full(2, np.inf)  # Before anything was recorded.
            first, boxes = response, []
            while first > 0 and self.between(first, response)[0] <= ago + slack:
                first -= 1
                if self.between(first, response)[1] >= ago - slack:
                    boxes.append(self._path(first, first + 1, handled))
        else:
            boxes = [self._path(response - 1, response, handled)]
            # Who throws in the frame of a reset may still see where the player was before it.
            if response > 1 and handled.reset_between(response - 2, response - 1):
                boxes.append(self._path(response - 2, response - 1, handled))
        return np.min([low for low, _ in boxes], axis=0), np.max([high for _, high in boxes], axis=0)

    def _path(self, first: int, last: int, handled: Handled) -> tuple[np.ndarray, np.ndarray]:
        """Where the player can have been between two responses that follow each other."""
        commands = handled.velocity[handled.count[first] : handled.count[last] + 1].astype(float)
        least, largest = np.minimum(commands.min(axis=0), 0), np.maximum(commands.max(axis=0), 0)
        # A frame more on either side: publication and motion may change places in a frame.
        frame = self.frame_seconds * np.maximum(-least, largest)
        seconds = self.between(first, last)[1]
        before, after = self._position[first], self._position[last]
        if handled.reset_between(first, last):
            start = np.array([player_start().x, player_start().y], float)
            low = np.min([before + least * seconds, after, start], axis=0)
            high = np.max([before + largest * seconds, after, start], axis=0)
        else:
            low = np.maximum(before + least * seconds, after - largest * seconds)
            high = np.minimum(before + largest * seconds, after - least * seconds)
            low, high = (
                np.minimum(low, np.minimum(before, after)),
                np.maximum(high, np.maximum(before, after)),
            )
        return low - frame, high + frame


def _longest(fit: Fit) -> float:
    """How long one of the frames can be, where all the others are even."""
    lengths = fit.frame_seconds.astype(float)
    return float(max(lengths.max(), lengths.mean() + lengths.std() * np.sqrt(len(lengths) - 1)))
