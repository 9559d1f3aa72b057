"""Where fits of flights start: numbers of frames that may be right, and lengths that nearly are.

A fit only succeeds if every bounce falls into the right frame. When a projectile bounced is known: it slows
down, so how far it came tells the end of that frame. The frames are laid out between such ends.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxdodge.parity.flight_solver import UNKNOWNS, Flight, fall_per_second, flown_alone
from jaxdodge.sim import systems

MOST_FRAMES = 2000
SHARES_OF_RAMPS = (0.02, -0.02, 0.2, -0.2, 0.6, -0.6)
"""Fits start from frames that become longer or shorter by these shares."""
RAISED = 8.0
"""Metres: as far as a projectile falls in 1.2 s if these are one frame."""
LONGER = 1.1
"""By which factor the frame of a bounce is longer than it must be, to start from."""
SAME_FRAME = 0.02
"""Of a frame: bounces so near each other are in the same."""


@dataclasses.dataclass(frozen=True)
class Guess:
    """Frames to start a fit from."""

    frames: int
    ends: np.ndarray
    """int32 (UNKNOWNS,): as in `Batch`."""
    lengths: np.ndarray
    """(UNKNOWNS,), seconds."""


def usual_frame_seconds(flights: Sequence[Flight], nominal: float) -> float:
    """How long a frame lasts, from how much less far a projectile falls in many frames than in one."""
    known = frames_from_falls(flights)
    known = known[~np.isnan(known)]
    return float(np.median(known)) if len(known) >= 5 else nominal


def frames_from_falls(flights: Sequence[Flight]) -> np.ndarray:
    """Of every flight, the sum of its frames' squared lengths over their sum; NaN where it does not say."""
    if not flights:
        return np.zeros(0)
    seconds = np.array([_seconds(flight) for flight in flights])
    which = np.repeat(np.arange(len(flights)), [len(flight.start) for flight in flights])
    start, end = (np.concatenate([getattr(flight, name) for flight in flights]) for name in ("start", "end"))
    # Raised, because one frame as long as all falls deeper than they do, and must not bounce.
    raised = np.array([0, 0, RAISED, 0, 0, 0], np.float32)
    # One frame falls by g T^2, two by g T^2 (1 + 1/2) / 2.
    one, two = (flown_alone(start + raised, seconds[which] / frames, frames) - raised for frames in (1, 2))
    tells = np.concatenate([_unchanged(flight) for flight in flights]) & (seconds[which] > 1e-4)
    tells &= np.all(one[:, 3:5] == start[:, 3:5], axis=1) & (two[:, 2] > one[:, 2])
    share = 1 - (end[:, 2] - one[:, 2]) / np.where(tells, 2 * (two - one)[:, 2], 1)
    share = np.where(tells, np.clip(share, 1 / MOST_FRAMES, 1), np.nan)
    return np.array(
        [
            np.median(share[own][tells[own]]) * length if tells[own].any() else np.nan
            for length, own in zip(seconds, np.split(np.arange(len(which)), starts(which)), strict=True)
        ]
    )


def _unchanged(flight: Flight) -> np.ndarray:
    """bool (rows,): observed at both moments, and without a bounce between."""
    same = np.all(flight.start[:, 3:5] == flight.end[:, 3:5], axis=1) & (flight.end[:, 2] > np.float32(0.35))
    if flight.thrown:
        same[-1] = False
    return same


def _seconds(flight: Flight) -> float:
    """How long the flight lasted: exact for what did not bounce, nearly so for what bounced once."""
    start, end = flight.start.astype(float), flight.end.astype(float)
    if flight.thrown and len(start) == 1:
        return float(start[0, 5] - end[0, 5]) / fall_per_second()
    rows = slice(-1) if flight.thrown else slice(None)
    moved, speed = (end - start)[rows, :2], (start + end)[rows, 3:5] / 2
    unchanged = _unchanged(flight)[rows]
    if unchanged.any():
        moved, speed = moved[unchanged], speed[unchanged]
    elif (once := np.flatnonzero(_bounces(flight)[rows] == 1)).size:
        before, after = start[once[0]], end[once[0]]
        fast, slow = np.hypot(*before[3:5]), np.hypot(*after[3:5])
        way = (after - before)[:2] @ before[3:5] / fast
        fall, share = fall_per_second(), float(systems.RESTITUTION)
        parts = np.linalg.solve([[fast, slow], [share * fall, -fall]], [way, after[5] + share * before[5]])
        if np.all(parts >= 0):
            return float(parts.sum())
    return max(float(np.sum(moved * speed) / np.sum(speed * speed)), 0.0)


def _bounces(flight: Flight) -> np.ndarray:
    """int (rows,): how often each bounced."""
    before, after = (np.hypot(*rows[:, 3:5].astype(float).T) for rows in (flight.start, flight.end))
    # A row thrown has its velocity of the end at the start, too.
    slower = np.log(np.maximum(after, 1e-6) / np.maximum(before, 1e-6))
    return np.round(slower / min(np.log(float(systems.FRICTION)), -1e-6)).astype(int)


def _bounced(flight: Flight, seconds: float, frame_seconds: float) -> np.ndarray:
    """Of projectiles that bounced once: seconds to the ground, and to that frame's end; (n, 2)."""
    once = _bounces(flight) == 1
    start, end = flight.start[once].astype(float), flight.end[once].astype(float)
    fast, slow = np.hypot(*start[:, 3:5].T), np.hypot(*end[:, 3:5].T)
    way = np.sum((end - start)[:, :2] * start[:, 3:5], axis=1) / fast
    ends = (way - slow * seconds) / (fast - slow)
    half_fall = fall_per_second() / 2
    climb, height = start[:, 5] - half_fall * frame_seconds, start[:, 2] - float(systems.PROJECTILE_RADIUS)
    reach = (climb + np.sqrt(climb**2 + 4 * half_fall * np.maximum(height, 0))) / (2 * half_fall)
    result = np.stack([np.minimum(reach, ends), ends], axis=1)
    return result[np.argsort(ends)]


def guesses(flight: Flight, frame_seconds: float, squared: float) -> list[Guess]:
    """Some guesses; `squared` as from `frames_from_falls`."""
    seconds = _seconds(flight)
    if seconds < frame_seconds * 1e-3 and flight.frames is None:
        return [Guess(0, np.zeros(UNKNOWNS, np.int32), np.full(UNKNOWNS, 1e-6))]
    expected = seconds / frame_seconds
    if flight.frames is not None:
        numbers = {flight.frames}
    else:
        numbers = {round(expected) + more for more in (-1, 0, 1)}
        if np.isnan(squared):
            numbers |= {round(expected) - 2, round(expected) + 2}
        else:
            # The evener the frames, the nearer is this to their number, from below.
            least = seconds / squared
            numbers |= {round(least), int(np.ceil(least - 0.1)), int(np.ceil(least - 0.1)) + 1}
            numbers = {number for number in numbers if number > 0.95 * least - 0.1}
    found = []
    for frames in sorted(number for number in numbers if 1 <= number <= MOST_FRAMES):
        shares: tuple[float, ...] = (0.0,) if frames == 1 else SHARES_OF_RAMPS
        if not np.isnan(squared) and frames > 1:
            ramp = float(np.sqrt(3 * max(frames * squared / seconds - 1, 1e-5)))
            shares = (ramp, -ramp, ramp / 3, -ramp / 3)
        parts = _parts(flight, frames, seconds, frame_seconds)
        found += [
            _laid_out(parts, lambda unknowns, share=share: share * np.linspace(-1, 1, unknowns))
            for share in shares
        ]
    return found or [_laid_out([(seconds, 1)], np.zeros)]


def more_guesses(flight: Flight, frame_seconds: float, squared: float, best: Guess, generator) -> list[Guess]:
    """Others at random, for a flight that no frames have fitted so far; `best` came nearest."""
    seconds = _seconds(flight)
    near = round(seconds / frame_seconds)
    spread = 2 + round(near**0.5 / 3)
    least = max(1, flight.age or 0)
    if flight.frames is not None:
        # Without a bounce, one frame more or less may have fitted as well.
        near, spread = flight.frames, min(spread, flight.frames // 16 + 1)
    elif not np.isnan(squared):
        # Where a machine stalled, frames are fewer; the squares of their lengths say how few at least.
        near = min(near, int((near + np.ceil(seconds / squared)) / 2))
    numbers = {best.frames, *range(near - spread, near + spread + 1)}
    found = [
        Guess(best.frames, best.ends, best.lengths * np.exp(width * generator.standard_normal(UNKNOWNS)))
        for width in (1e-3, 1e-3, 0.01, 0.01, 0.05, 0.05)
    ]
    for frames in sorted(number for number in numbers if least <= number <= MOST_FRAMES):
        for width in (0.02, 0.1, 0.3):
            parts = _parts(
                flight, frames, seconds, frame_seconds, width * generator.standard_normal(UNKNOWNS)
            )
            found.append(
                _laid_out(parts, lambda unknowns, width=width: width * generator.standard_normal(unknowns))
            )
    return found


def _parts(
    flight: Flight, frames: int, seconds: float, frame_seconds: float, noise=None
) -> list[tuple[float, int]]:
    """Stretches between two ends of frames that are known: seconds and frames of each."""
    stretches = [(0.0, seconds, frames)]
    if flight.thrown and flight.age is not None and 0 < flight.age < frames:
        born = seconds - float(flight.start[-1, 5] - flight.end[-1, 5]) / fall_per_second()
        if 0 < born < seconds:
            stretches = [(0.0, born, frames - flight.age), (born, seconds, flight.age)]
    bounced = _bounced(flight, seconds, frame_seconds)
    parts: list[tuple[float, int]] = []
    for low, high, number in stretches:
        edges: list[float] = [low]
        longest: list[float] = []
        for reaches, end in (*bounced[(bounced[:, 1] > low) & (bounced[:, 1] < high)], (high, high)):
            if end - edges[-1] > SAME_FRAME * frame_seconds:
                edges.append(float(end))
                longest.append(float(end - reaches))
        edges[-1] = high
        if number < len(longest) or not longest:
            edges, longest = [low, high], [0.0]
        lengths = np.diff(edges)
        weights = lengths if noise is None else lengths * np.maximum(1 + noise[: len(lengths)], 0.1)
        counts = _shared_out(number, weights, number)
        for length, count, least in zip(lengths.tolist(), counts, longest, strict=True):
            # The frame of a bounce begins above the ground.
            last = min(least * LONGER, length * 0.95)
            if count > 1 and last > length / count:
                parts += [(length - last, count - 1), (last, 1)]
            else:
                parts.append((length, count))
    return parts


def _shared_out(number: int, weights, most) -> list[int]:
    """Whole numbers with that sum, at least 1 and not above `most` each, as near to the weights as can be."""
    wanted = number * np.asarray(weights, float) / np.sum(weights)
    result = np.clip(np.floor(wanted), 1, most)
    while (missing := number - result.sum()) != 0:
        change = np.sign(missing)
        possible = result < most if change > 0 else result > 1
        result[np.argmax(np.where(possible, change * (wanted - result), -np.inf))] += change
    return result.astype(int).tolist()


def _laid_out(parts: list[tuple[float, int]], odd) -> Guess:
    """Frames that share the time of each part, but for the odd shares of a number of lengths."""
    counts = np.array([count for _, count in parts])
    if len(parts) > UNKNOWNS:
        parts = [(sum(seconds for seconds, _ in parts), int(counts.sum()))]
        counts = counts.sum(keepdims=True)
    unknowns = _shared_out(min(int(counts.sum()), UNKNOWNS), counts, counts)
    ends: list[int] = []
    lengths: list[float] = []
    for (seconds, count), number in zip(parts, unknowns, strict=True):
        own = np.round(np.linspace(0, count, number + 1)).astype(int)
        share = np.maximum(1 + odd(number), 0.05) if number > 1 else np.ones(1)
        ends += (own[1:] + (ends[-1] if ends else 0)).tolist()
        lengths += (share * seconds / np.sum(share * np.diff(own))).tolist()
    left = UNKNOWNS - len(ends)
    return Guess(
        int(counts.sum()),
        np.pad(np.array(ends, np.int32), (0, left), mode="edge"),
        np.pad(np.array(lengths), (0, left), mode="edge"),
    )


def starts(which: np.ndarray) -> np.ndarray:
    """Where, in numbers that are in order, another begins."""
    return np.flatnonzero(np.diff(which)) + 1
