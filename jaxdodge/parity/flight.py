"""The flight of projectiles between two moments, with an unknown number of frames of unknown lengths between.

The frames are fitted: the simulator's own `move_projectiles` flies every projectile from the first moment on,
and the lengths of the frames are changed until it arrives at the second. All projectiles share the frames, so
there are more equations than unknowns. What is left over at the best fit is compared with what rounding
alone could leave; horizontal velocities, which no length of a frame can change, must be equal bit for bit.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from jaxdodge.parity.flight_solver import FITTED, UNKNOWNS, Flight, fall_per_second, solve, stacked, tolerance
from jaxdodge.parity.flight_start import Guess, frames_from_falls, guesses, more_guesses, starts
from jaxdodge.sim.systems import FRICTION

MOST_SEARCHES = 8
"""Of a flight that does not fit at once."""
SEARCHED_TOGETHER = 8


@dataclasses.dataclass(frozen=True)
class Fit:
    """The frames that fit a flight best."""

    frame_seconds: np.ndarray
    """float32 (frames,)."""
    arrival: np.ndarray
    """float32 (rows, 6): where the simulator arrives."""
    error: float
    """Largest deviation, as a share of what rounding allows (`_tolerance`)."""
    worst: tuple[int, int]
    """Its row and component."""
    age: int
    """How many of the frames the last row has moved."""
    guess: Guess
    """The lengths that were fitted, from which a search may go on."""

    @property
    def frames(self) -> int:
        """Their number."""
        return len(self.frame_seconds)

    @property
    def seconds(self) -> float:
        """The time that passed."""
        return float(np.sum(self.frame_seconds, dtype=np.float64))


def fit_flights(
    flights: Sequence[Flight], frame_seconds: float, alternatives: Sequence[int] | None = None
) -> list[Fit]:
    """The best fit of every flight.

    Args:
        flights: to fit.
        frame_seconds: about how long a frame lasts.
        alternatives: flights with the same number are of the same projectiles, and one of them must fit; in
            order. None: all must.
    """
    falls = frames_from_falls(flights)
    fits = _best(
        flights,
        frame_seconds,
        [guesses(flight, frame_seconds, fall) for flight, fall in zip(flights, falls, strict=True)],
    )
    numbers = range(len(flights)) if alternatives is None else alternatives
    groups = [list(group) for _, group in itertools.groupby(range(len(flights)), lambda at: numbers[at])]
    generator = np.random.default_rng(0)

    def unfit(groups: list[list[int]]) -> list[list[int]]:
        return [group for group in groups if min(fits[at].error for at in group) > 1]

    left = unfit(groups)
    for first in range(0, len(left), SEARCHED_TOGETHER):
        some = left[first : first + SEARCHED_TOGETHER]
        # Bounces make it a search with many valleys.
        for _ in range(MOST_SEARCHES):
            bad = [at for group in unfit(some) for at in group if fits[at].frames]
            more = [
                more_guesses(flights[at], frame_seconds, falls[at], fits[at].guess, generator) for at in bad
            ]
            for at, fit in zip(bad, _best([flights[at] for at in bad], frame_seconds, more), strict=True):
                fits[at] = min(fits[at], fit, key=lambda fit: fit.error)
        for at in (at for group in unfit(some) for at in group if fits[at].frames > UNKNOWNS):
            error = _coarse_error(flights[at], fits[at], frame_seconds)
            fits[at] = dataclasses.replace(fits[at], error=min(fits[at].error, error))
        if unfit(some):
            break  # One that nothing fits is a difference, and enough.
    return fits


def _coarse_error(flight: Flight, fit: Fit, frame_seconds: float) -> float:
    """The error where neighbouring frames share a length, so bounces may be a part of a frame early or late.

    What a frame changes is then allowed per bounce, and for a throw.
    """
    start, end = flight.start.astype(float), flight.end.astype(float)
    before, after = np.hypot(*start[:, 3:5].T), np.hypot(*end[:, 3:5].T)
    shift = np.round(np.log(after / before) / np.log(float(FRICTION)))  # bounces
    if flight.thrown:
        shift[-1] += 1
    allowed = tolerance(flight, fit.frames)
    fastest = np.maximum(np.abs(start[:, 5]), np.abs(end[:, 5])) + fall_per_second() * frame_seconds
    allowed[:, :2] += ((before - after) * frame_seconds)[:, None]
    allowed[:, 2] += shift * fastest * frame_seconds
    allowed[:, 5] += shift * fall_per_second() * frame_seconds
    deviation = np.abs(fit.arrival.astype(float) - end)
    if flight.thrown:
        deviation[-1, :2] = 0
    exact = not np.any(deviation[:, ~FITTED])
    return float(np.max(deviation[:, FITTED] / allowed[:, FITTED])) if exact else np.inf


def _best(flights: Sequence[Flight], frame_seconds: float, guesses_of_each: list[list[Guess]]) -> list[Fit]:
    """The best of the numbers and lengths of frames that are tried, of every flight."""
    if not flights:
        return []
    tries = [(which, guess) for which, guesses in enumerate(guesses_of_each) for guess in guesses]
    which = np.array([which for which, _ in tries])
    frames = np.array([guess.frames for _, guess in tries], np.int32)
    ends = np.stack([guess.ends for _, guess in tries])
    batch = stacked([flights[flight] for flight in which], frames, ends)
    lengths, arrival, errors = solve(batch, np.stack([guess.lengths for _, guess in tries]))
    size = errors.max(axis=(1, 2))
    # Among those that fit, the frames that are most evenly long.
    rank = np.where(size <= 1, _unevenness(lengths, ends, frame_seconds), 1e6 + size)
    best = [own[np.argmin(rank[own])] for own in np.split(np.arange(len(which)), starts(which))]
    return [
        Fit(
            frame_seconds=np.repeat(lengths[at], np.diff(ends[at], prepend=0)).astype(np.float32),
            arrival=arrival[at, : len(flights[which[at]].start)],
            error=float(size[at]),
            worst=_place(errors[at]),
            age=frames[at] if flights[which[at]].age is None else flights[which[at]].age,
            guess=Guess(int(frames[at]), ends[at], lengths[at]),
        )
        for at in best
    ]


def _unevenness(lengths: np.ndarray, ends: np.ndarray, frame_seconds: float) -> np.ndarray:
    odd = np.log(np.maximum(lengths, 1e-9) / frame_seconds) ** 2
    return np.sum(np.diff(ends, prepend=0) * odd, axis=1)


def _place(errors: np.ndarray) -> tuple[int, int]:
    row, component = np.unravel_index(int(np.argmax(errors)), errors.shape)
    return int(row), int(component)
