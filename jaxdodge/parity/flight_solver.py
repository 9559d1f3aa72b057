"""Least squares for flights: which lengths of frames lead projectiles from one moment to another.

The simulator's own `move_projectiles` flies them.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.sim import systems
from jaxdodge.sim.params import game_params
from jaxdodge.sim.state import Vector, server_start
from jaxdodge.sim.systems import Inputs, move_projectiles

MOST_ROWS = 11
"""Projectiles of one fit: those that are observed, and one that was thrown meanwhile."""
UNKNOWNS = 32
"""Lengths that are fitted at most; of more frames, neighbours share one."""
ITERATIONS = 10
SHORTENED = 0.3
BATCH = 256
FITTED = np.array([True, True, True, False, False, True])
"""Of position and velocity, what depends on the lengths of the frames."""


@dataclasses.dataclass(frozen=True)
class Flight:
    """Projectiles at two moments: float32 (rows, 6), position and velocity, row by row the same ones.

    With `thrown`, the last row is one that appeared meanwhile; its horizontal position is not compared.
    """

    start: np.ndarray
    end: np.ndarray
    frames: int | None = None
    """How many there are, if that is known."""
    thrown: bool = False
    age: int | None = None
    """How many frames before the end it appeared, at the start by default."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Fits that are tried, each with its own number of frames; arrays with that leading axis."""

    start: np.ndarray
    end: np.ndarray
    tolerance: np.ndarray
    """(tries, MOST_ROWS, 6), inf where nothing is compared."""
    born: np.ndarray
    """int32 (tries, MOST_ROWS): frame from which a row moves."""
    frames: np.ndarray
    """int32 (tries,)."""
    ends: np.ndarray
    """int32 (tries, UNKNOWNS): the frames that the lengths up to each are of; one may be of several."""


def fall_per_second() -> float:
    """By how much a projectile's vertical velocity falls in a second."""
    return float(systems.PROJECTILE_GRAVITY)


def flown_alone(rows: np.ndarray, lengths: np.ndarray, frames: int) -> np.ndarray:
    """Each row (tries, 6), flown alone, after so many frames of a length (tries,); float64."""
    start = np.zeros((len(rows), MOST_ROWS, 6), np.float32)
    start[:, 0] = rows
    count = np.full(len(rows), frames, np.int32)
    ends = np.full((len(rows), UNKNOWNS), frames, np.int32)
    batch = Batch(start, start, start, np.zeros((len(rows), MOST_ROWS), np.int32), count, ends)
    return fly(batch, np.repeat(lengths[:, None], UNKNOWNS, axis=1))[:, 0].astype(float)


def stacked(flights: Sequence[Flight], frames: np.ndarray, ends: np.ndarray) -> Batch:
    """Flights of so many frames each."""
    shape = (len(flights), MOST_ROWS, 6)
    start, end = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    tolerances, born = np.full(shape, np.inf), np.zeros(shape[:2], np.int32)
    for at, flight in enumerate(flights):
        rows = len(flight.start)
        start[at, :rows], end[at, :rows] = flight.start, flight.end
        tolerances[at, :rows] = tolerance(flight, int(frames[at]))
        if flight.thrown:
            tolerances[at, rows - 1, :2] = np.inf
        if flight.age is not None:
            born[at, rows - 1] = frames[at] - flight.age
    return Batch(start, end, tolerances, born, frames, ends)


def tolerance(flight: Flight, frames: int) -> np.ndarray:
    """What rounding can leave: (rows, 6).

    In each frame the game and the simulator round position and vertical velocity by half a unit in the last
    place at most, so n frames of almost the same lengths leave n units; and one more for the lengths
    themselves. Units are those of the largest magnitude on the way: a metre or 4 m/s above the ends.
    """
    largest = np.maximum(np.abs(flight.start), np.abs(flight.end))
    unit = np.spacing(largest + np.array([1, 1, 1, 0, 0, 4], np.float32))
    return np.where(FITTED, (frames + 1) * unit.astype(float), 0.0)


@jax.jit
def _flown(start, born, lengths, frames, ends):
    """The rows after the frames; float32 (MOST_ROWS, 6); all arguments as in `Batch`."""
    state = server_start(game_params(GameConfig()), MOST_ROWS, 1)
    x, y, z, vx, vy, vz = start.T
    state = state.replace(
        projectiles=state.projectiles.replace(position=Vector(x, y, z), velocity=Vector(vx, vy, vz))
    )

    def one(frame, projectiles):
        shared = jnp.minimum(jnp.searchsorted(ends, frame, side="right"), UNKNOWNS - 1)
        length = jnp.where((frame < frames) & (frame >= born), lengths[shared], 0)
        inputs = Inputs(jnp.int32(0), length, (jnp.float32(0), jnp.float32(0)))
        return move_projectiles(state.replace(projectiles=projectiles), inputs).projectiles

    last = jax.lax.fori_loop(0, frames, one, state.projectiles)
    rows = (*jax.tree.leaves(last.position), *jax.tree.leaves(last.velocity))
    return jnp.stack(rows, axis=-1)


_fly_all = jax.jit(jax.vmap(_flown))
_slopes_of_all = jax.jit(jax.vmap(jax.jacfwd(_flown, argnums=2)))


def _in_batches(function, batch: Batch, lengths: np.ndarray) -> np.ndarray:
    results = []
    # Neighbours in the order of frames run equally long.
    order = np.argsort(batch.frames, kind="stable")
    for first in range(0, len(order), BATCH):
        part = np.resize(order[first : first + BATCH], BATCH)
        arrays = (batch.start, batch.born, lengths.astype(np.float32), batch.frames, batch.ends)
        results.append(np.asarray(function(*(array[part] for array in arrays))))
    result = np.concatenate(results)[: len(order)]
    return result[np.argsort(order, kind="stable")]


def fly(batch: Batch, lengths: np.ndarray) -> np.ndarray:
    """Where the rows arrive with lengths (tries, UNKNOWNS): float32 (tries, MOST_ROWS, 6)."""
    return _in_batches(_fly_all, batch, lengths)


def solve(batch: Batch, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares by Gauss and Newton: lengths, arrivals, and deviations as shares of the tolerance."""
    used = np.diff(batch.ends, prepend=0) > 0
    weight = np.where(batch.tolerance > 0, 1 / np.where(batch.tolerance > 0, batch.tolerance, 1), 0)
    best = (lengths.copy(), batch.start.copy(), np.full(batch.tolerance.shape, np.inf))
    base, step = lengths.copy(), np.zeros_like(lengths)
    least, share = np.full(len(lengths), np.inf), np.ones(len(lengths))
    for _ in range(ITERATIONS):
        arrival = fly(batch, lengths)
        found = (lengths, arrival, _errors(batch, arrival))
        better = found[2].max(axis=(1, 2)) < best[2].max(axis=(1, 2))
        for old, new in zip(best, found, strict=True):
            old[better] = new[better]
        deviation = (arrival.astype(float) - batch.end) * weight
        square = np.sum(deviation**2, axis=(1, 2))
        nearer = square < least
        # A whole step may lead past a bounce; then it is shortened.
        share = np.where(nearer, 1.0, share * SHORTENED)
        base[nearer], least[nearer] = lengths[nearer], square[nearer]
        slopes = _in_batches(_slopes_of_all, batch, lengths) * weight[..., None] * used[:, None, None, :]
        slopes, deviation = slopes.reshape(len(lengths), -1, UNKNOWNS), deviation.reshape(len(lengths), -1, 1)
        step[nearer] = (np.linalg.pinv(slopes[nearer], rcond=1e-5) @ deviation[nearer])[..., 0]
        lengths = np.clip(base - share[:, None] * step, 1e-7, 1.0)
    return best


def _errors(batch: Batch, arrival: np.ndarray) -> np.ndarray:
    deviation = np.abs(arrival.astype(float) - batch.end)
    share = deviation / np.where(batch.tolerance > 0, batch.tolerance, 1)
    # A velocity that must be equal and is not deviates by more than any tolerance.
    unit = np.spacing(np.abs(batch.end) + np.float32(1e-6))
    return np.where(batch.tolerance > 0, share, np.where(deviation > 0, 2 * deviation / unit, 0))
