"""When the responses of a session were published, and where the player can have been meanwhile."""

from typing import Any

import numpy as np

from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Number
from jaxdodge.parity.flight import Time
from jaxdodge.recordings.session import Session
from jaxdodge.sim.state import player_start

LONGEST_COUNTED = 0.25
"""Seconds that a frame counts at most, however long it lasts."""


class Clock:
    """The time between publications: exact where projectiles tell it,
    else by the client's clock.
    """

    def __init__(self, session: Session, time: Time) -> None:
        self.frame_seconds, self.frames = time.frame_seconds, time.frames
        known = ~np.isnan(time.seconds)
        self._sent, self._received = session.arrays["sent_s"], session.arrays["received_s"]
        self._position = session.arrays["observation"][:, :2].astype(float)
        wall = np.diff(self._received, prepend=self._sent[0])
        longest = time.longest()
        # A publication may be older than a frame where a machine stalls.
        stale = np.minimum(np.abs(wall - time.seconds)[known], LONGEST_COUNTED)
        most = [2 * self.frame_seconds, np.nanmax(longest, initial=0), np.max(stale, initial=0)]
        self.longest_frame = float(min(max(most), LONGEST_COUNTED))
        """What no frame exceeds of those that projectiles tell, and no publication is older."""
        unseen = np.clip(wall + self.frame_seconds, self.longest_frame, LONGEST_COUNTED)
        longest = np.where(np.isnan(longest), np.where(known, self.longest_frame, unseen), longest)
        # The same publication again is still of the frame before.
        moved = np.where(known & (time.seconds == 0), 0, np.arange(len(session)))
        self.longest = longest[np.maximum.accumulate(moved)]
        """(N,): what no frame between a response and the one before exceeds."""
        self._known = np.cumsum(known)
        self._seconds = np.cumsum(np.where(known, time.seconds, 0))
        self._error = np.cumsum(np.where(known, time.error, 0))

    def steady(self, first: Number, last: Number) -> bool:
        """Whether projectiles tell all the time between two responses."""
        return bool(self._known[last] - self._known[first] == last - first)

    def between(self, first: Number, last: Number) -> tuple[float, float]:
        """Least and largest time between the publications of two responses, seconds."""
        if self.steady(first, last):
            exact = float(self._seconds[last] - self._seconds[first])
            error = float(self._error[last] - self._error[first])
            return exact - error, exact + error
        # What is answered was published a frame before the request at the earliest.
        low = self._sent[last] - self.longest_frame - self._received[first]
        high = self._received[last] - self._sent[first] + self.longest_frame
        return max(float(low), 0.0), float(high)

    def longest_near(self, first: int, last: int) -> float:
        """What no frame exceeds from before the first response to the last."""
        return float(np.max(self.longest[max(first, 0) : last + 1]))

    def longest_between(self, first: int, last: int) -> float:
        """The longest time between neighbouring requests, from before the
        first response on, seconds.
        """
        return float(np.max(np.diff(self._sent[max(first - 1, 0) : last + 1]), initial=0))

    def stalled(self, first: int, last: int) -> bool:
        """Whether the game's clock may have fallen behind: frames count 250 ms at most."""
        waits = np.diff(self._received[first : last + 1])
        return not self.steady(first, last) and bool(np.any(waits > LONGEST_COUNTED))

    def player_between(
        self, response: int, ago: float, slack: float, handled: Handled
    ) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest x and y, each (2,), of the player some time
        before a response was published.

        Args:
            response: the response.
            ago: seconds.
            slack: by how much the time may be longer or shorter.
            handled: the commands that moved the player.
        """
        first, boxes = response, []
        while first > 0 and self.between(first, response)[0] <= ago + slack:
            first -= 1
            since = self.between(first, response)[1] - ago + slack
            until = ago + slack - self.between(first + 1, response)[0]
            if since >= 0:
                boxes.append(self._path(first, since, until, handled))
        if not boxes or (first == 0 and self.between(0, response)[0] <= ago + slack):
            return np.full(2, -np.inf), np.full(2, np.inf)  # Before anything was recorded.
        return np.min([low for low, _ in boxes], axis=0), np.max([high for _, high in boxes], axis=0)

    def _path(self, first: int, since: float, until: float, handled: Handled) -> Any:
        """Where the player can have been at times after a response and before the next one."""
        last = first + 1
        commands = handled.velocity[handled.least[first] : handled.count[last] + 1].astype(float)
        least, largest = np.minimum(commands.min(axis=0), 0), np.maximum(commands.max(axis=0), 0)
        before, after = self._position[first], self._position[last]
        if handled.reset_between(first, last):
            # Who throws in the frame of a reset may still see where the player was before it.
            places = [before, after, np.array([player_start().x, player_start().y], float)]
            return np.min(places, axis=0) + least * since, np.max(places, axis=0) + largest * since
        low = np.maximum(before + least * since, after - largest * until)
        high = np.minimum(before + largest * since, after - least * until)
        return np.minimum(low, np.minimum(before, after)), np.maximum(high, np.maximum(before, after))
