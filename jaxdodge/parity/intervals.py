"""The table of projectiles from one response to the next: which rows stay,
which are gone, which are new.

In flight a projectile keeps its horizontal velocity to the bit, and a bounce multiplies it by the
friction. So the same projectile is known by these bits. The game appends new rows and fills a gap
with the last row, so the order of the rows says what may have happened.
"""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np

from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.flight import VELOCITY, Flights
from jaxdodge.parity.simulated import a_frame, flying, map_rows
from jaxdodge.recordings.session import Session
from jaxdodge.sim import systems
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.publish import OBSERVED_PROJECTILES
from jaxdodge.sim.systems import cleanup_projectiles

COMPONENTS = ("position x", "position y", "position z", "velocity x", "velocity y", "velocity z")
MOST_BOUNCES = 12
LATE_FRAMES = 3
"""A removal is deferred to the end of its frame, and the order of a frame may vary."""
MOST_CHANGES = 5
"""Rows gone and new between two responses, beyond which their order is not checked."""
SHORTEST_LIFE = 0.8
"""Seconds within which no projectile bounces, and none is thrown and leaves the world."""


@dataclasses.dataclass(frozen=True)
class Changes:
    """What becomes of the observed projectiles from one response to the next."""

    table: np.ndarray
    """float32 (N, 10, 6): position and velocity."""
    visible: np.ndarray
    """int (N,): how many rows of it are projectiles."""
    flights: Flights
    """Those that two responses in a row show, by response and row."""
    new: np.ndarray
    """bool (N, 10): rows that the response before does not show; of the first response none."""
    gone: np.ndarray
    """bool (N, 10): by the later response, rows of the earlier one that it does not show."""


def matched(table: np.ndarray, visible: np.ndarray) -> Changes:
    """Find the same projectiles in responses in a row; arguments as `Changes` has them."""
    before, after = table[:-1], table[1:]
    here = np.arange(OBSERVED_PROJECTILES) < visible[:, None]
    free = here[:-1, :, None] & here[1:, None, :]
    velocity, found = before[..., VELOCITY], []
    for bounces in range(MOST_BOUNCES + 1):
        same = np.all(velocity[:, :, None] == after[:, None, :, VELOCITY], axis=-1) & free
        # Of several with the same velocity, the first.
        same &= (np.cumsum(same, axis=2) == 1) & (np.cumsum(same, axis=1) == 1)
        free = free & ~same.any(axis=2, keepdims=True) & ~same.any(axis=1, keepdims=True)
        found.append(np.column_stack([*np.nonzero(same), np.full(np.count_nonzero(same), bounces)]))
        velocity = velocity * systems.FRICTION
    each = np.concatenate(found)
    end, row, column, bounces = each[np.lexsort((each[:, 1], each[:, 0]))].T
    new, gone = here.copy(), np.roll(here, 1, axis=0)
    new[end + 1, column] = gone[end + 1, row] = new[0] = gone[0] = False
    flights = Flights(end + 1, row, column, bounces, before[end, row], after[end, column])
    return Changes(table, visible, flights, new, gone)


def check_flights(flights: Flights, arrival: np.ndarray, ratio: np.ndarray, findings: Findings) -> None:
    """Every projectile is where the simulator flies it, which `flown` says."""
    findings.values += flights.finish.size
    for at in np.flatnonzero(np.any(ratio > 1, axis=1)):
        component = int(np.argmax(ratio[at]))
        findings.add(
            flights.end[at],
            f"projectile {flights.after[at]}, {COMPONENTS[component]}",
            flights.finish[at, component],
            f"{arrival[at, component]} ({ratio[at, component]:.3g} times the bound)",
        )


def check_order(session: Session, changes: Changes, handled: Handled, findings: Findings) -> None:
    """Some sequence of appending and of filling gaps must lead from one table to the next."""
    flights, end = changes.flights, np.arange(1, len(session))
    count, sent, received = (session.arrays[name] for name in ("projectile_count", "sent_s", "received_s"))
    several = changes.gone.sum(axis=1) + changes.new.sum(axis=1)
    checked = (several[1:] <= MOST_CHANGES) & (received[1:] - sent[:-1] < SHORTEST_LIFE)
    checked &= np.maximum(count[1:], count[:-1]) <= OBSERVED_PROJECTILES
    edges = np.searchsorted(flights.end, np.arange(len(session) + 1))
    for response in end[checked].tolist():
        own = slice(edges[response], edges[response + 1])
        before, after = flights.before[own].tolist(), flights.after[own].tolist()
        gone = np.flatnonzero(changes.gone[response]).tolist()
        new = np.flatnonzero(changes.new[response]).tolist()
        if (before == after and not gone) or handled.reset_around(response - 1, response):
            continue
        goal = [-1] * (len(after) + len(new))
        for row, column in zip(before, after, strict=True):
            goal[column] = row
        table = list(range(len(before) + len(gone)))
        if not _leads_to(table, goal, [*gone, *(-1 for _ in new)]):
            findings.add(response, "order of projectiles", goal, f"none that comes of {table}")


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


def check_gone(
    session: Session, changes: Changes, handled: Handled, clock: Clock, findings: Findings
) -> None:
    """Projectiles go when they leave the world or when a reset is handled, and then they do."""
    flights = changes.flights
    number = np.arange(1, len(session))
    ahead = _outside(session, changes, np.append(clock.between(number - 1, number)[1] + 1e-4, 0.0))
    for end, row in np.argwhere(changes.gone):
        if not ahead[end - 1, row] and not handled.reset_around(end - 1, end):
            position = changes.table[end - 1, row, :3]
            findings.add(end, f"projectile last at {position}", "gone", "still there")
    # What has been outside, or been there before a reset, for some frames should be gone.
    most, least = handled.resets[handled.count], handled.resets[handled.least]
    # Surely handled between the response before and this one. Of a torn response that is not known.
    cleared = (least > np.append(most[0], most[:-1]))[:, None] & ~changes.new
    cleared[[torn + 1 for torn in findings.torn if torn + 1 < len(session)]] = False
    leaves = cleared | _outside(session, changes, np.zeros(len(session)))
    late = np.zeros(leaves.shape, int)
    for end, row, column in zip(flights.end, flights.before, flights.after, strict=True):
        if leaves[end - 1, row] or late[end - 1, row]:
            late[end, column] = late[end - 1, row] + clock.frames[end]
        if late[end, column] > LATE_FRAMES:
            position = changes.table[end, column, :3]
            findings.add(end, f"projectile {column}", f"still at {position}", "removed")


def _outside(session: Session, changes: Changes, seconds: np.ndarray) -> np.ndarray:
    """bool (N, 10): what the simulator removes a time (N,) later."""
    moved = changes.table.copy()
    # Heights do not matter: nothing falls below the ground.
    moved[..., :2] += changes.table[..., VELOCITY] * seconds[:, None, None]
    return map_rows(_removed, (moved, changes.visible), game_params(session.config))


def _removed(row: Any, params: GameParams) -> jax.Array:
    return cleanup_projectiles(flying(*row), params, a_frame()).projectiles.outside
