"""The time between two responses, fitted to all projectiles at once.

The game integrates semi-implicitly. So between two responses without a bounce only two numbers act:
T, the sum of the frame times, and S, the sum of their squares. A projectile moves by v T, its
vertical velocity changes by -g T, its height by v T - g (T^2 + S) / 2. T^2 / S is about the number
of frames. A bounce splits the interval in two parts with a T and an S each.

Every projectile bounds T and S by what rounding can change, and the bounds of all are intersected.
Frames with these sums are then flown by the simulator's own `move_projectiles`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.parity.simulated import a_frame, flying, map_rows
from jaxdodge.sim import systems
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.state import Projectiles
from jaxdodge.sim.systems import move_projectiles

MORE_FRAMES = 1.25
"""By which factor there can be more frames than the time suggests, where rounding is bounded."""
STALLED = 2.0
"""Usual frames; S / T above says that one frame lasted much longer than the others."""
POSITION, VELOCITY = slice(0, 2), slice(3, 5)
Z, FALL = 2, 5


@dataclasses.dataclass(frozen=True)
class Flights:
    """Projectiles that two responses in a row show; arrays over them."""

    end: np.ndarray
    """int: the later response."""
    before: np.ndarray
    """int: row in the earlier response."""
    after: np.ndarray
    """int: row in the later one."""
    bounces: np.ndarray
    """int: how often it bounced meanwhile."""
    start: np.ndarray
    """float32 (..., 6): position and velocity in the earlier response."""
    finish: np.ndarray
    """float32 (..., 6): in the later one."""


@dataclasses.dataclass(frozen=True)
class Time:
    """The frames between each response and the one before; arrays (N,), NaN where unknown."""

    seconds: np.ndarray
    """T."""
    error: np.ndarray
    """By how much T can be wrong."""
    squares: np.ndarray
    """S, also NaN where all projectiles bounced."""
    squares_error: np.ndarray
    frames: np.ndarray
    """int: the most likely number, 0 where T is not known."""
    frame_seconds: float
    """The usual length of a frame."""

    def longest(self) -> np.ndarray:
        """(N,): seconds that no frame of an interval exceeds, by its T and S; NaN where unknown."""
        frames = self.frames + 1
        spread = np.maximum(self.squares + self.squares_error - self.seconds**2 / frames, 0)
        even = (self.seconds + self.error) / frames
        return np.minimum(even + np.sqrt(spread * (frames - 1) / frames), self.seconds + self.error)


def length(vectors: np.ndarray) -> np.ndarray:
    """Of vectors (..., 2), to the same bits on every machine."""
    return np.sqrt(vectors[..., 0] ** 2 + vectors[..., 1] ** 2)


def rounding(start: np.ndarray, end: np.ndarray, frames: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """What rounding can change: (rows, 6), metres and m/s.

    A frame rounds a product and a sum for each value, each by half a unit in the last place at
    most. The errors of the vertical velocity add up once more in the height.
    """
    gravity = float(systems.PROJECTILE_GRAVITY)
    largest = np.maximum(np.maximum(np.abs(start), np.abs(end)), np.abs(end - start))
    # As high as the energy at either end allows, and as fast as the fall from there.
    high = np.maximum(*(rows[:, Z] + rows[:, FALL] ** 2 / gravity / 2 for rows in (start, end)))
    largest[:, Z], largest[:, FALL] = high, np.sqrt(2 * gravity * high) + 1
    bound = frames[:, None] * np.spacing(largest.astype(np.float32)).astype(float)
    bound[:, Z] += bound[:, FALL] * seconds
    bound[:, VELOCITY] = 0
    return bound


def fit_time(flights: Flights, responses: int, fps: float) -> Time:
    """T and S of every interval, from all its projectiles that bounced once at most."""
    gravity, share = float(systems.PROJECTILE_GRAVITY), float(systems.RESTITUTION)
    start, end = flights.start.astype(float), flights.finish.astype(float)
    way = length((end - start)[:, POSITION])
    speed, slower = length(start[:, VELOCITY]), np.maximum(length(end[:, VELOCITY]), 1e-9)
    exact = rounding(start, end, 1 + MORE_FRAMES * fps * way / slower, way / slower)
    straight, once = flights.bounces == 0, flights.bounces == 1
    with np.errstate(divide="ignore", invalid="ignore"):
        of_motion = (end - start)[:, POSITION] / start[:, VELOCITY]
        slack = exact[:, POSITION] / np.abs(start[:, VELOCITY])
    of_fall = (start[:, FALL] - end[:, FALL]) / gravity
    each = np.column_stack([np.where(np.isfinite(slack), of_motion, 0), of_fall])
    slack = np.column_stack([np.where(np.isfinite(slack), slack, np.inf), exact[:, FALL] / gravity])
    low, high = (each - slack).max(axis=1), (each + slack).min(axis=1)
    # Of one that has bounced, the way and the fall tell both parts of its time.
    first = gravity * way + slower * (end[:, FALL] + share * start[:, FALL])
    first /= gravity * (speed + share * slower)
    total = first + (way - speed * first) / slower
    slack = 2 * (exact[:, 0] + exact[:, 1]) / slower + 2 * exact[:, FALL] / gravity
    low, high = np.where(once, total - slack, low), np.where(once, total + slack, high)
    seconds, error = _intersected(flights.end, straight | once, low, high, responses)
    own, own_error = seconds[flights.end], error[flights.end]
    squares = 2 * (start[:, Z] + start[:, FALL] * own - end[:, Z]) / gravity - own**2
    slack = 2 * (exact[:, Z] + (np.abs(start[:, FALL]) + gravity * own) * own_error) / gravity
    sum_of_squares = _intersected(flights.end, straight, squares - slack, squares + slack, responses)
    return Time(seconds, error, *sum_of_squares, *_counted(seconds, *sum_of_squares, fps))


def _intersected(
    which: np.ndarray, rows: np.ndarray, low: np.ndarray, high: np.ndarray, responses: int
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half width (N,) of what all rows of an interval allow; NaN without rows."""
    least, largest = np.full(responses, -np.inf), np.full(responses, np.inf)
    np.maximum.at(least, which[rows], low[rows])
    np.minimum.at(largest, which[rows], high[rows])
    known = np.isfinite(least) & np.isfinite(largest)
    least, largest = np.where(known, least, np.nan), np.where(known, largest, np.nan)
    return (least + largest) / 2, np.maximum(largest - least, 0) / 2


def _counted(
    seconds: np.ndarray, squares: np.ndarray, squares_error: np.ndarray, fps: float
) -> tuple[np.ndarray, float]:
    """Frames of every interval, int (N,), and their usual length.

    T^2 / S is the number over 1 + the variance of the frames, as a share of their length squared.
    """
    told = (seconds > 0) & (squares > 0)
    total, square = seconds[told], np.minimum(squares[told], seconds[told] ** 2)
    evenly = total**2 / square
    least = np.maximum(np.ceil(total**2 / (square + squares_error[told]) - 1e-9), 1)
    frames, usual, variance = least, 1 / fps, 0.0
    for _ in range(3 if told.any() else 0):
        usual = float(np.median(total / frames))
        ordinary = square / total < STALLED * usual
        if ordinary.any():
            # Added in order, and so to the same bits on every machine.
            sums = [np.cumsum(each[ordinary])[-1] for each in (frames, total, square)]
            variance = max(float(sums[0] * sums[2] / sums[1] ** 2) - 1, 0.0)
        frames = np.maximum(least, np.round(evenly + variance * (evenly - 1)))
        # All frames but a long one are of the usual length.
        root = np.maximum((2 * total - usual) ** 2 - 4 * (total**2 - square), 0)
        others = ((2 * total - usual) - np.sqrt(root)) / (2 * usual)
        frames = np.where(ordinary, frames, np.maximum(least, 1 + np.round(others)))
    by_time = np.maximum(np.round(seconds / usual), 1)
    count = np.where(seconds > 0, by_time, 0).astype(int)
    count[told] = frames
    return count, usual


def flown(flights: Flights, time: Time) -> tuple[np.ndarray, np.ndarray]:
    """Fly every projectile through frames with the T and S of its interval.

    Returns:
        float32 (rows, 6), where the simulator arrives; and (rows, 6), the deviation from where the
        server arrived as a share of what rounding and the errors of T and S allow. NaN, and 0, for
        more than one bounce and where T is not known.
    """
    gravity, share = float(systems.PROJECTILE_GRAVITY), float(systems.RESTITUTION)
    ground = float(systems.PROJECTILE_RADIUS)
    start, end = flights.start.astype(float), flights.finish.astype(float)
    once = flights.bounces == 1
    total, error = time.seconds[flights.end], time.error[flights.end]
    square, slack = time.squares[flights.end], time.squares_error[flights.end]
    told = ~np.isnan(total) & (flights.bounces <= 1)
    # A bounce ends on the ground, in whatever frames it came there: one is enough.
    first = (end[:, FALL] + share * start[:, FALL] + gravity * total) / (gravity * (1 + share))
    first = np.where(once, np.clip(first, 0, total), 0.0)
    last = total - first
    up = share * (gravity * first - start[:, FALL])
    of_last = 2 * (ground + up * last - end[:, Z]) / gravity - last**2
    frames = _frames(last, np.where(once, of_last, square), slack, time.frame_seconds)
    arrival = np.full(start.shape, np.nan, np.float32)
    arrival[told] = map_rows(_flown, (flights.start, first, frames), game_params(GameConfig()))[told]
    number = np.maximum(frames[2], time.frames[flights.end]) + 2.0
    bound = 2 * rounding(start, end, number, np.nan_to_num(total))
    error = error + total * 2.0**-24
    split = np.where(once, error + bound[:, FALL] / gravity, 0)
    fastest = np.maximum(np.maximum(np.abs(start[:, FALL]), np.abs(end[:, FALL])), up * once)
    bound[:, POSITION] += np.abs(start[:, VELOCITY]) * error[:, None]
    bound[:, POSITION] += np.abs(start[:, VELOCITY] - end[:, VELOCITY]) * split[:, None]
    bound[:, FALL] += gravity * error + gravity * split
    bound[:, Z] += (fastest + gravity * total) * (error + 2 * split) + np.where(once, 0, gravity / 2 * slack)
    deviation = np.abs(arrival.astype(float) - end)
    # It must not be below the ground before the frame of its bounce.
    ahead = np.maximum(first - time.longest()[flights.end], 0)
    height = start[:, Z] - ground + start[:, FALL] * ahead - gravity / 2 * ahead**2
    deviation[:, Z] = np.where(once & (height < 0), np.fmax(deviation[:, Z], -height), deviation[:, Z])
    deviation[~told] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bound > 0, deviation / bound, np.where(deviation > 0, np.inf, 0))
    return arrival, np.where(told[:, None], ratio, 0)


def _frames(
    seconds: np.ndarray, squares: np.ndarray, slack: np.ndarray, usual: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames with these sums, of which the last is the longest: its length comes after that of
    the others, and then their number.
    """
    seconds, squares = np.nan_to_num(seconds), np.nan_to_num(squares)
    likely = np.round(seconds / usual)
    most = 2 + 2 * likely
    squares = np.clip(squares, seconds**2 / most, seconds**2)
    least = np.ceil(seconds**2 / np.maximum(squares + np.nan_to_num(slack), 1e-30) - 1e-9)
    count = np.clip(np.where(least > 1, np.maximum(least, likely), 1), 1, most)
    spread = np.maximum(squares / count - (seconds / count) ** 2, 0)
    equal = np.maximum(seconds / count - np.sqrt(spread / np.maximum(count - 1, 1)), 0)
    return equal, seconds - (count - 1) * equal, count.astype(np.int32)


def _flown(row: Any, params: GameParams) -> jax.Array:
    """Where the simulator leads a row (6,) through a first frame and then `_frames`."""
    start, first, (equal, last, count) = row
    state = flying(start[None])

    def one(frame: jax.Array, projectiles: Projectiles) -> Projectiles:
        inputs = a_frame(jnp.where(frame == 0, first, jnp.where(frame < count, equal, last)))
        return move_projectiles(state.replace(projectiles=projectiles), params, inputs).projectiles

    flown = jax.lax.fori_loop(0, count + 1, one, state.projectiles)
    return jnp.concatenate([*jax.tree.leaves(flown.position), *jax.tree.leaves(flown.velocity)])
