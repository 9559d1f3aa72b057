"""The player's horizontal motion against the actions sent.

Between two responses the player goes straight with each velocity commanded. For how long with each
follows from where it arrives; all of it must be the time that passed, but for a frame: the
published position is one frame old.
"""

import dataclasses

import numpy as np

from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.flight import MORE_FRAMES, length
from jaxdodge.recordings.session import Session
from jaxdodge.sim.systems import PLAY_ZONE_X, PLAY_ZONE_Y

ZONE = np.array([PLAY_ZONE_X, PLAY_ZONE_Y], float)
SLOWEST = 0.1
"""m/s, below which a way does not tell a time."""


@dataclasses.dataclass(frozen=True)
class Moved:
    """For how long the player moved since the response before, where that is known."""

    response: int
    with_last: float
    """Seconds with the velocity that the response shows."""
    commands: int
    """Different velocities since the response before."""


def check_motion(session: Session, handled: Handled, clock: Clock, findings: Findings) -> list[Moved]:
    """Check where the player is in every response, from where it was in the one before."""
    position = session.arrays["observation"][:, :2].astype(float)
    findings.values += position.size
    moved = []
    drift, since = 0.0, None
    for response in range(1, len(session)):
        if handled.reset_between(response - 1, response):
            continue
        before, after = position[response - 1], position[response]
        velocities = _velocities(handled, response)
        low, high = clock.between(response - 1, response)
        frame = max(clock.longest_near(response - 2, response), high - low)
        shortest, longest = max(low - frame, 0.0), high + frame
        # A product and a sum are rounded in every frame.
        bound = (2 + MORE_FRAMES * longest / clock.frame_seconds) * float(np.spacing(PLAY_ZONE_X))
        ways = np.concatenate([velocities * shortest, velocities * longest])
        nearest = np.clip(before + ways.min(axis=0), -ZONE, ZONE)
        furthest = np.clip(before + ways.max(axis=0), -ZONE, ZONE)
        if np.any(after < nearest - bound) or np.any(after > furthest + bound):
            findings.add(response, "player position", after, f"between {nearest} and {furthest}")
        walls = np.abs([before, after, before + velocities[0] * longest])
        free = not np.any(walls >= ZONE - bound)
        split = _split(after - before, velocities, bound) if free else None
        if split is None:
            drift, since = 0.0, None
            if free and _opposed(velocities) and clock.steady(response - 1, response):
                moved.append(Moved(response, _with_last(after - before, velocities, (low + high) / 2), 2))
            continue
        seconds, slack, aside = split
        total = float(sum(seconds))
        if aside > bound or min(seconds) < -slack or not low - frame - slack <= total <= high + frame + slack:
            parts = [
                f"{time:.5f} s at ({x:.4g}, {y:.4g}) m/s"
                for time, (x, y) in zip(seconds, velocities, strict=True)
            ]
            way = f"moved {' and '.join(parts)}, {aside:.3g} m aside"
            findings.add(response, "player position", way, f"{low:.5f} to {high:.5f} s in all")
            continue
        moved.append(Moved(response, float(seconds[-1]), len(velocities)))
        # One publication is a frame late, and so is the next: over many responses nothing adds up.
        steady = clock.steady(response - 1, response)
        drift = drift + total - low if steady and since == response - 1 else 0.0
        since = response if steady else None
        if abs(drift) > 2 * clock.longest_frame:
            text = f"{drift:.4f} s more"
            findings.add(response, "time that the player moved", text, "as much as all")
            drift = 0.0
    return moved


def _opposed(velocities: np.ndarray) -> bool:
    """Whether they are two that differ by as much as the faster one, or more."""
    return len(velocities) == 2 and bool(length(velocities[1] - velocities[0]) >= length(velocities).max())


def _with_last(way: np.ndarray, velocities: np.ndarray, total: float) -> float:
    """Seconds with the second of two velocities, of known seconds with both.

    Of opposite velocities, and of one that is zero, the way alone does not tell both times.
    """
    change = velocities[1] - velocities[0]
    seconds = np.sum((way - velocities[0] * total) * change) / np.sum(change**2)
    return float(np.clip(seconds, 0, total))


def _velocities(handled: Handled, response: int) -> np.ndarray:
    """The velocities commanded since the response before, and the one it shows; float64 (n, 2)."""
    commands = handled.velocity[handled.count[response - 1] : handled.count[response] + 1].astype(float)
    changes = np.any(commands[1:] != commands[:-1], axis=1)
    return commands[np.insert(changes, 0, True)]


def _split(way: np.ndarray, velocities: np.ndarray, bound: float) -> tuple[list[float], float, float] | None:
    """Seconds with each velocity, their error, and metres off the way; None if unknown."""
    speeds = length(velocities)
    if len(velocities) > 2 or speeds.min() <= SLOWEST:
        return None
    (x, y), last = velocities[0], velocities[-1]
    # Of one velocity, the other direction is across the way.
    other_x, other_y = last if len(velocities) == 2 else (y, -x)
    determinant = x * other_y - y * other_x
    if abs(determinant) <= 0.05 * speeds[0] * speeds[-1]:
        return None
    first = (way[0] * other_y - way[1] * other_x) / determinant
    second = (way[1] * x - way[0] * y) / determinant
    slack = 2 * bound * speeds.max() / abs(determinant)
    return (
        ([first, second], slack, 0.0)
        if len(velocities) == 2
        else ([first], slack, abs(second) * speeds[0] / 2)
    )
