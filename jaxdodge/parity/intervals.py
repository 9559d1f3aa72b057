"""The table of projectiles from one response to the next: which rows are the same, which are gone, which new.

A projectile never turns, it only slows down when it bounces: so the same one is known by its direction. The
game appends new rows and fills a gap with the last row, so the order of the rows says what may have happened.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.flight import Fit, fit_flights
from jaxdodge.parity.flight_solver import Flight
from jaxdodge.parity.flight_start import usual_frame_seconds
from jaxdodge.parity.publications import Rows, observed_state
from jaxdodge.recordings.session import Session
from jaxdodge.sim.params import game_params
from jaxdodge.sim.publish import OBSERVED_PROJECTILES, STANDARD_SIZE
from jaxdodge.sim.systems import Inputs, cleanup_projectiles

COMPONENTS = ("position x", "position y", "position z", "velocity x", "velocity y", "velocity z")
SAME_DIRECTION = 1e-6
LATE_FRAMES = 3
"""A removal is deferred to the end of its frame, and the order of a frame may vary."""
MOST_CHANGES = 6
"""Rows gone and new between two responses, beyond which their order is not checked."""


@dataclasses.dataclass
class Interval:
    """From one response to the next."""

    end: int
    """The later response."""
    kept: list[tuple[int, int]]
    """Rows that are the same projectile: before, after."""
    gone: list[int]
    new: list[int]
    fit: Fit | None = None
    """The frames, where a projectile tells them."""


def follow(
    session: Session, rows: Rows, handled: Handled, findings: Findings
) -> tuple[list[Interval], float]:
    """Match the rows of all responses and fit the frames between them; also the usual length of a frame."""
    intervals = [_matched(rows.of(end - 1), rows.of(end), end) for end in range(1, len(session))]
    flying = [interval for interval in intervals if interval.kept]
    flights = [
        Flight(
            rows.of(interval.end - 1)[[before for before, _ in interval.kept]],
            rows.of(interval.end)[[after for _, after in interval.kept]],
        )
        for interval in flying
    ]
    frame_seconds = usual_frame_seconds(flights, 1 / session.config.fps)
    for interval, flight, fit in zip(flying, flights, fit_flights(flights, frame_seconds), strict=True):
        interval.fit = fit
        findings.values += flight.end.size
        if fit.error > 1:
            row, component = fit.worst
            findings.difference(
                interval.end,
                f"projectile {interval.kept[row][1]}, {COMPONENTS[component]}",
                flight.end[row, component],
                f"{fit.arrival[row, component]} after {fit.frames} frames ({fit.error:.3g} times the bound)",
            )
    _check_order(session, intervals, handled, findings)
    _check_gone(session, rows, intervals, handled, frame_seconds, findings)
    return intervals, frame_seconds


def _matched(before: np.ndarray, after: np.ndarray, end: int) -> Interval:
    """Rows with the same direction, no faster than before; of several, the ones that end nearest."""
    old, new = before[:, None, :].astype(float), after[None, :, :].astype(float)
    cross = old[..., 3] * new[..., 4] - old[..., 4] * new[..., 3]
    along = np.sum(old[..., 3:5] * new[..., 3:5], axis=-1)
    same = (np.abs(cross) <= SAME_DIRECTION * np.abs(along)) & (along > 0)
    same &= np.sum(new[..., 3:5] ** 2, axis=-1) <= np.sum(old[..., 3:5] ** 2, axis=-1) * (1 + 1e-6)
    # Where it would have been abreast of: no projectile flies back.
    same &= np.sum((new - old)[..., :2] * old[..., 3:5], axis=-1) >= 0
    kept: list[tuple[int, int]] = []
    aside = np.abs((new - old)[..., 0] * old[..., 4] - (new - old)[..., 1] * old[..., 3])
    for _, row, column in sorted((aside[r, c], int(r), int(c)) for r, c in np.argwhere(same)):
        if all(row != r and column != c for r, c in kept):
            kept.append((row, column))
    kept.sort()
    return Interval(
        end=end,
        kept=kept,
        gone=[row for row in range(len(before)) if row not in {r for r, _ in kept}],
        new=[column for column in range(len(after)) if column not in {c for _, c in kept}],
    )


def _check_order(session: Session, intervals: list[Interval], handled: Handled, findings: Findings) -> None:
    """Some sequence of appending and of filling gaps must lead from one table to the next."""
    count = session.arrays["projectile_count"]
    for interval in intervals:
        if max(count[interval.end - 1], count[interval.end]) > OBSERVED_PROJECTILES:
            continue
        table = list(range(len(interval.kept) + len(interval.gone)))
        wanted = {after: before for before, after in interval.kept}
        goal = [wanted.get(column, -1) for column in range(len(interval.kept) + len(interval.new))]
        changes = [*interval.gone, *(-1 for _ in interval.new)]
        if len(changes) <= MOST_CHANGES and not _leads_to(table, goal, changes):
            findings.difference(interval.end, "order of projectiles", goal, f"none that comes of {table}")


def _leads_to(table: list[int], goal: list[int], changes: list[int]) -> bool:
    for order in set(itertools.permutations(changes)):
        result = list(table)
        for change in order:
            if change == -1:
                result.append(-1)
            else:
                place, last = result.index(change), result.pop()
                if place < len(result):
                    result[place] = last
        if result == goal:
            return True
    return False


def _check_gone(session, rows: Rows, intervals, handled: Handled, frame_seconds, findings: Findings) -> None:
    """Projectiles go when they leave the world or when a reset is handled, and then they do."""
    # A frame of the longest kind further on, and a few frames back.
    ahead = np.zeros((len(session), OBSERVED_PROJECTILES), bool)
    lasting = np.zeros(len(session))
    for interval in intervals:
        received = session.arrays["received_s"]
        wall = received[interval.end] - received[interval.end - 1]
        lasting[interval.end - 1] = interval.fit.seconds if interval.fit else wall + 2 * frame_seconds
    ahead = _outside(session, rows, lasting + 1e-4)
    behind = _outside(session, rows, np.full(len(session), -LATE_FRAMES * frame_seconds))
    for response, row in np.argwhere(behind):
        position = rows.table[response, row, :3]
        findings.difference(response, f"projectile {row}", f"still at {position}", "removed")
    for interval in intervals:
        reset = handled.reset_around(interval.end - 1, interval.end)
        for row in interval.gone:
            if not reset and not ahead[interval.end - 1, row]:
                position = rows.table[interval.end - 1, row, :3]
                findings.difference(interval.end, f"projectile last at {position}", "gone", "still there")
    for earlier, later in itertools.pairwise(intervals):
        if not handled.reset_between(earlier.end - 1, earlier.end):
            continue
        moved = later.fit is not None and later.fit.frames > LATE_FRAMES
        survivors = {after for _, after in earlier.kept} & {before for before, _ in later.kept}
        if moved and survivors:
            findings.difference(later.end, "projectiles after a reset", len(survivors), 0)


def _outside(session: Session, rows: Rows, seconds: np.ndarray) -> np.ndarray:
    """bool (N, 10): what `cleanup_projectiles` removes a time (N,) later, or earlier, straight ahead."""
    position = rows.table[..., :3] + rows.table[..., 3:] * seconds[:, None, None]
    # Heights do not matter: nothing falls below the ground.
    position[..., 2] = rows.table[..., 2]
    moved = np.concatenate([position, rows.table[..., 3:]], axis=-1).reshape(len(rows.table), -1)
    observation = np.pad(moved, ((0, -len(moved) % 256), (STANDARD_SIZE - moved.shape[1], 0)))
    count = np.pad(rows.visible, (0, -len(moved) % 256)).astype(np.int32)
    result = _outside_all(observation.astype(np.float32), count, game_params(session.config))
    return np.asarray(result)[: len(moved)]


@jax.jit
def _outside_all(observation, count, params):
    def one(observation, count):
        inputs = Inputs(jnp.int32(0), jnp.float32(0), (jnp.float32(0), jnp.float32(0)))
        return cleanup_projectiles(observed_state(observation, count, params), inputs).projectiles.outside

    return jax.vmap(one)(observation, count)
