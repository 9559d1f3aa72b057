"""When the responses of a session were published, and where the player can have been meanwhile."""

from typing import Any

import numpy as np

from jaxdodge.parity.commands import Handled
from jaxdodge.parity.flight import Time
from jaxdodge.recordings.session import RESET, Session
from jaxdodge.server.realtime import GRPC_RESET, HTTP_RESET
from jaxdodge.sim.state import player_start

LONGEST_COUNTED = 0.25
"""Seconds that a frame counts at most, however long it lasts."""
MOST_APART, LAG = 0.1, 1.0
"""Share and seconds by which the game and the client's clock differ at most in real time."""


class Clock:
    """The time between publications: exact where projectiles tell it,
    else by the client's clock.
    """

    def __init__(self, session: Session, time: Time, handled: Handled) -> None:
        self.frame_seconds, self.frames = time.frame_seconds, time.frames
        known = ~np.isnan(time.seconds)
        self._sent, self._received = session.arrays["sent_s"], session.arrays["received_s"]
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
        self._low, self._high = self._player_since_before(session, handled)

    def steady(self, first: Any, last: Any) -> Any:
        """Whether projectiles tell all the time between two responses, or arrays of responses."""
        return self._known[last] - self._known[first] == last - first

    def between(self, first: Any, last: Any) -> tuple[Any, Any]:
        """Least and largest time between the publications of two responses, seconds; or arrays."""
        exact, error = self._seconds[last] - self._seconds[first], self._error[last] - self._error[first]
        # What is answered was published a frame before the request at the earliest.
        low = np.maximum(self._sent[last] - self.longest_frame - self._received[first], 0)
        high = self._received[last] - self._sent[first] + self.longest_frame
        steady = self.steady(first, last)
        return np.where(steady, exact - error, low), np.where(steady, exact + error, high)

    def longest_near(self, first: int, last: int) -> float:
        """What no frame exceeds from before the first response to the last."""
        return float(np.max(self.longest[max(first, 0) : last + 1]))

    def stalled(self, first: int, last: int) -> bool:
        """Whether the game's clock may have fallen behind: frames count 250 ms at most."""
        waits = np.diff(self._received[first : last + 1])
        return not self.steady(first, last) and bool(np.any(waits > LONGEST_COUNTED))

    def response_before(self, response: int, ago: float) -> int:
        """The last response that was surely published so many seconds before one; 0 if none was."""
        earlier = response
        while earlier > 0 and self.between(earlier, response)[0] <= ago:
            earlier -= 1
        return earlier

    def player_between(self, response: int, shortest: float, longest: float) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest x and y, each (2,), of the player some seconds before a response."""
        first = self.response_before(response, longest)
        if first == 0 and self.between(0, response)[0] <= longest:
            return np.full(2, -np.inf), np.full(2, np.inf)  # Before anything was recorded.
        last = first + 1
        while last < response and self.between(last, response)[1] >= shortest:
            last += 1
        return self._low[first + 1 : last + 1].min(axis=0), self._high[first + 1 : last + 1].max(axis=0)

    def _player_since_before(self, session: Session, handled: Handled) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest x and y, each (N, 2), between a response and the one before."""
        position = session.arrays["observation"][:, :2].astype(float)
        start = np.array([player_start().x, player_start().y], float)
        low, high = position.copy(), position.copy()
        for last in range(1, len(session)):
            before, after = position[last - 1], position[last]
            commands = handled.velocity[handled.least[last - 1] : handled.count[last] + 1].astype(float)
            seconds = self.between(last - 1, last)[1]
            back = np.minimum(commands.min(axis=0), 0) * seconds
            ahead = np.maximum(commands.max(axis=0), 0) * seconds
            if handled.reset_between(last - 1, last):
                # Who throws in the frame of a reset may still see where the player was before it.
                low[last] = np.min([before, after, start], axis=0) + back
                high[last] = np.max([before, after, start], axis=0) + ahead
            else:
                low[last] = np.min([before, after, np.maximum(before + back, after - ahead)], axis=0)
                high[last] = np.max([before, after, np.minimum(before + ahead, after - back)], axis=0)
        return low, high


def why_lockstep(session: Session, time: Time | None) -> str:
    """What shows that a server waits for its client; empty if nothing does.

    The client's clock does not tell the game's time then.

    Args:
        session: of the server.
        time: between its responses; None for images.
    """
    arrays, is_grpc = session.arrays, session.meta["transport"] == "grpc"
    waits = (arrays["received_s"] - arrays["sent_s"])[arrays["kind"] == RESET]
    shortest = float(np.min(waits, initial=np.inf))
    if shortest < (GRPC_RESET if is_grpc else HTTP_RESET) / 2:
        return f"a reset answered after {1e3 * shortest:.1f} ms"
    if time is None or not np.any(known := ~np.isnan(time.seconds[1:])):
        return ""
    wall = np.diff(arrays["received_s"])[known]
    # A frame counts LONGEST_COUNTED at most, however long a server in real time stalls.
    counted = wall <= np.median(wall) + LONGEST_COUNTED
    game, wall = float(time.seconds[1:][known][counted].sum()), float(wall[counted].sum())
    if abs(game - wall) <= MOST_APART * wall + LAG:
        return ""
    return f"{game:.1f} s of the game in {wall:.1f} s of the client's clock"
