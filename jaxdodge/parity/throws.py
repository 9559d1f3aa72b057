"""New projectiles against the law of throws: from where, aimed at whom, and when.

A projectile that is seen for the first time has flown for some frames already. How long follows from its
fall, so its birth is known: the place must be one that the simulator throws from, the velocity must aim at
where the player was, and births must keep the rhythm of the spawn timer.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.flight import fit_flights
from jaxdodge.parity.flight_solver import Flight, fall_per_second
from jaxdodge.parity.intervals import Interval
from jaxdodge.parity.publications import Rows
from jaxdodge.recordings.session import Session
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.publish import OBSERVED_PROJECTILES, STANDARD_SIZE
from jaxdodge.sim.state import Vector, server_start
from jaxdodge.sim.systems import Inputs, spawn_position, spawn_projectiles

AT_START = 1.0
"""Seconds after the first request, in which throws are not checked."""
BOUND = 2e-4
"""Metres by which a birth that was calculated back may be off."""
POINTS = 16_385
"""Of the line that throws come from."""
STALL = 3.0
"""Usual frames that one lasts where a machine stalls."""
SHORTEST_FLIGHT = 0.8
"""Seconds within which no projectile bounces."""


@dataclasses.dataclass(frozen=True)
class Throw:
    """A projectile's birth."""

    response: int
    """The first that shows it."""
    age: float
    """Seconds that it has moved by then."""
    position: np.ndarray
    """(2,): where it appeared."""
    target: np.ndarray
    """(2,): whom it aims at."""


def check_throws(
    session: Session,
    rows: Rows,
    intervals: list[Interval],
    handled: Handled,
    clock: Clock,
    findings: Findings,
) -> list[Throw]:
    """Check the birth of every new projectile; returns them in the order in which they were born."""
    law = _Law(session)
    throws, untold = [], []
    for interval, column, fit in _births(session, rows, intervals, law, clock.frame_seconds, findings):
        if fit is None:
            untold.append(interval.end)
            continue
        end = rows.of(interval.end)[column].astype(float)
        age = float(np.sum(fit.frame_seconds[fit.frames - fit.age :], dtype=float))
        moved = fit.arrival[-1, :2].astype(float)
        position = end[:2] - moved
        throw = Throw(interval.end, age, position, law.target(position, end[3:5]))
        throws.append(throw)
        findings.values += 4
        off = law.distance_from_line(position)
        if off > BOUND:
            text = f"{off:.3g} m from every place of a throw"
            findings.difference(interval.end, f"projectile {column}, thrown from {position}", "seen", text)
        low, high = clock.player_between(interval.end, age + law.delay, handled, delayed=law.delay > 0)
        outside = np.maximum(np.maximum(low - throw.target, throw.target - high), 0)
        if np.any(outside > BOUND * 5):
            findings.difference(
                interval.end, f"projectile {column}, aim", throw.target, f"a player between {low} and {high}"
            )
    # Of two in one response, the table's order is not always that of their births.
    throws.sort(key=lambda throw: (throw.response, -throw.age))
    _check_rhythm(session, throws, untold, handled, clock, findings)
    if session.config.observation_mode == "with_thrower":
        _check_indicators(session, throws, clock, law, findings)
    return throws


def _births(session, rows: Rows, intervals, law, frame_seconds: float, findings: Findings):
    """Every new row with the best fit of its flight since it was thrown: interval, row, fit or None."""
    count = session.arrays["projectile_count"]
    flights, of = [], []
    since_start = session.arrays["received_s"] - session.arrays["sent_s"][0]
    for interval in intervals:
        if max(count[interval.end - 1], count[interval.end]) > OBSERVED_PROJECTILES:
            continue  # It may have been there before, unobserved.
        if since_start[interval.end] < AT_START:
            continue  # It may come of an indicator from before the configuration, which survives it.
        for column in interval.new:
            start, end = _with_thrown(rows, interval, column, law)
            if interval.fit is None or interval.fit.error > 1:
                flights.append(Flight(start[-1:], end[-1:], thrown=True))
                of.append((interval, column))
                continue
            expected = (law.climb - end[-1, 5]) / fall_per_second() / frame_seconds
            spread = 2 + round(max(expected, 0.0) ** 0.5 / 2)
            for age in range(int(expected) - spread, int(expected) + spread + 2):
                if 0 <= age <= interval.fit.frames + 1:
                    frames = max(interval.fit.frames, age)
                    flights.append(Flight(start, end, frames, thrown=True, age=age))
                    of.append((interval, column))
    births = itertools.groupby(range(len(of)), lambda at: (of[at][0].end, of[at][1]))
    ages_of = [list(group) for _, group in births]
    fits = fit_flights(flights, frame_seconds, [number for number, ages in enumerate(ages_of) for _ in ages])
    for ages in ages_of:
        best = min(ages, key=lambda at: fits[at].error)
        (interval, column), fit = of[best], fits[best]
        if fit.error <= 1:
            yield interval, column, fit
        elif _tells(session, interval, frame_seconds):
            row = fit.worst[0]
            findings.difference(
                interval.end,
                f"projectile {column}, thrown since the response before",
                flights[best].end[row],
                f"{fit.arrival[row]} ({fit.error:.3g} times the bound)",
            )
        else:
            yield interval, column, None


def _tells(session: Session, interval: Interval, frame_seconds: float) -> bool:
    """Whether a throw since the response before must be understood: no bounce since, and no stall."""
    passed = session.arrays["received_s"][interval.end] - session.arrays["sent_s"][interval.end - 1]
    fit = interval.fit
    stalled = (
        fit is not None and fit.error <= 1 and fit.frames and fit.frame_seconds.max() > STALL * frame_seconds
    )
    return bool(passed < SHORTEST_FLIGHT and not stalled)


def _with_thrown(rows: Rows, interval: Interval, column: int, law) -> tuple[np.ndarray, np.ndarray]:
    """The flight of the projectiles that were kept and, last, of the thrown one."""
    before, after = rows.of(interval.end - 1), rows.of(interval.end)
    end = after[column]
    thrown = np.array([0, 0, law.height, end[3], end[4], law.climb], np.float32)
    kept = interval.kept if interval.fit is not None and interval.fit.error <= 1 else []
    start = np.stack([*(before[row] for row, _ in kept), thrown])
    return start, np.stack([*(after[row] for _, row in kept), end])


class _Law:
    """What the simulator throws, with this configuration."""

    def __init__(self, session: Session) -> None:
        params = game_params(session.config)
        self._params = params
        thrown = _thrown(params, np.zeros(2, np.float32), np.zeros(2, np.float32))
        beside = _thrown(params, np.zeros(2, np.float32), np.array([1, 0], np.float32))
        self.height, self.climb = float(thrown[2]), float(thrown[5])
        self._flight_seconds = 1 / float(beside[3] - thrown[3])
        x, y = _line(params)
        self._line = np.stack([np.asarray(x, float), np.asarray(y, float)], axis=1)
        thrower = session.config.observation_mode == "with_thrower"
        self.delay = float(session.config.thrower_delay_seconds) if thrower else 0.0

    def target(self, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Where the player was, (2,), whom a throw aims at."""
        return position + velocity * self._flight_seconds

    def distance_from_line(self, position: np.ndarray) -> float:
        """Metres between a place and the nearest from which a throw may come."""
        start, along = self._line[:-1], np.diff(self._line, axis=0)
        share = np.sum((position - start) * along, axis=1) / np.maximum(np.sum(along**2, axis=1), 1e-30)
        nearest = start + np.clip(share, 0, 1)[:, None] * along
        return float(np.min(np.hypot(*(position - nearest).T)))


@jax.jit
def _thrown(params: GameParams, position, player):
    """Position and velocity, (6,), of a throw from a place at a player."""
    state = server_start(params.replace(observation_mode=jnp.int32(0)), 1, 1)
    at = state.player.position.replace(x=player[0], y=player[1])
    state = state.replace(player=state.player.replace(position=at), spawn_timer=state.spawn_interval)
    spawn = spawn_projectiles(state, Inputs(jnp.int32(0), jnp.float32(0), (position[0], position[1])))
    thrown: tuple[Vector, Vector] = spawn.spawned_projectile.position, spawn.spawned_projectile.velocity
    return jnp.stack([part for vector in thrown for part in (vector.x, vector.y, vector.z)])


@jax.jit
def _line(params: GameParams):
    return spawn_position(jnp.linspace(0, 1, POINTS, dtype=jnp.float32), params)


def _check_rhythm(session, throws: list[Throw], untold: list[int], handled, clock: Clock, findings) -> None:
    """Births lie whole intervals apart, but for the frame that they wait for."""
    interval = float(session.config.projectile_spawn_interval)
    anchor, number = None, 0
    for earlier, later in itertools.pairwise(throws):
        low, high = _gap(earlier, later, clock)
        more = round((low + high) / 2 / interval)
        waits = [clock.longest_frame_before(throw.response) for throw in (earlier, later)]
        if high - low + sum(waits) > interval or clock.stalled(earlier.response, later.response):
            anchor = None  # Too long a gap to count the intervals in it.
            continue
        if anchor is None:
            anchor, number = earlier, 0
        number += more
        findings.values += 1
        low, high = _gap(anchor, later, clock)
        waited = clock.longest_frame_before(anchor.response)
        if more == 0 or not low - waits[1] <= number * interval <= high + waited:
            text = f"{max(number, 1)} x {interval:.6g} s"
            gap = f"{(low + high) / 2:.4f} s after that of response {anchor.response}"
            findings.difference(later.response, "throw", gap, text)
            anchor = None
        reset = handled.reset_around(earlier.response, later.response)
        count = session.arrays["projectile_count"][earlier.response : later.response + 1]
        unseen = (
            bool(np.any(count > OBSERVED_PROJECTILES))
            or any(earlier.response <= response <= later.response for response in untold)
            or clock.longest_between(earlier.response, later.response) > SHORTEST_FLIGHT
        )
        if more > 1 and not (reset or unseen) and clock.steady(earlier.response, later.response):
            findings.difference(later.response, "throws since the one before", 1, more)


def _gap(earlier: Throw, later: Throw, clock: Clock) -> tuple[float, float]:
    low, high = clock.between(earlier.response, later.response)
    return low + earlier.age - later.age, high + earlier.age - later.age


def _check_indicators(session, throws: list[Throw], clock: Clock, law, findings: Findings) -> None:
    indicator = session.arrays["observation"][:, STANDARD_SIZE:].astype(float)
    shown = np.any(indicator != 0, axis=1)
    findings.values += indicator.size
    for response in np.flatnonzero(shown):
        position, share = indicator[response, :2], indicator[response, 3]
        off = law.distance_from_line(position)
        if off > BOUND or np.float32(indicator[response, 2]) != np.float32(law.height):
            text = f"none that stands {off:.3g} m from every place of a throw"
            findings.difference(response, "observation[65:68]", indicator[response, :3], text)
        if not 0 <= share <= 1:
            findings.difference(response, "observation[68]", share, "0 to 1")
    for earlier, later in itertools.pairwise(np.flatnonzero(shown)):
        if later != earlier + 1 or np.any(indicator[earlier, :2] != indicator[later, :2]):
            continue
        if indicator[later, 3] == 0:
            continue
        low, high = clock.between(earlier, later)
        slack = clock.longest_frame
        passed = (indicator[earlier, 3] - indicator[later, 3]) * law.delay
        if not low - slack <= passed <= high + slack:
            text = f"less by {low:.4f} to {high:.4f} s of the delay"
            findings.difference(later, "observation[68]", f"less by {passed:.4f} s", text)
    interval = float(session.config.projectile_spawn_interval)
    single = law.delay < interval - 2 * clock.frame_seconds
    for throw in throws:
        born = throw.response
        lived = [r for r in range(max(born - 1, 0), born) if shown[r]]
        if not single or not lived:
            continue
        # Another may have come and gone since.
        low, high = clock.between(lived[-1], born)
        fires = float(indicator[lived[-1], 3]) * law.delay + throw.age
        if not low - 1.5 * clock.longest_frame <= fires <= high + 1.5 * clock.longest_frame:
            continue
        off = float(np.hypot(*(indicator[lived[-1], :2] - throw.position)))
        if off > BOUND:
            findings.difference(
                born, "place of a throw", throw.position, f"{indicator[lived[-1], :2]}, the indicator's"
            )
