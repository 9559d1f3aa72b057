"""Which rule of a session's game looks wrong, and by how much: the game's
constants, fitted to the session.

Nothing here decides whether a session agrees. The constants explain to a user why one does not.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.flight import FALL, MORE_FRAMES, POSITION, VELOCITY, Flights, rounding
from jaxdodge.parity.throws import CHANCE, Throw
from jaxdodge.recordings.session import Session
from jaxdodge.sim import systems
from jaxdodge.sim.publish import OBSERVED_PROJECTILES, STANDARD_SIZE

SAME_DIRECTION = 1e-6
LEAST = 3
"""Measurements that give a range."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """A constant of the game, as a session shows it."""

    name: str
    low: float
    high: float
    simulated: float

    def __str__(self) -> str:
        return f"{self.name} {self.low:.6g} to {self.high:.6g}, simulated {self.simulated:.6g}"


def wrong_rules(
    session: Session, handled: Handled, flights: Flights, clock: Clock, throws: list[Throw]
) -> list[Rule]:
    """The constants whose fitted range does not hold the simulator's value."""
    config = session.config
    gravity, restitution = _of_flight(session, flights)
    interval = _interval(throws, clock, float(config.projectile_spawn_interval))
    rules = [
        ("gravity", gravity, float(systems.PROJECTILE_GRAVITY)),
        ("restitution", restitution, float(systems.RESTITUTION)),
        ("friction", _friction(session), float(systems.FRICTION)),
        ("player_speed", _speed(session, handled), config.player_speed),
        ("projectile_spawn_interval", interval, config.projectile_spawn_interval),
    ]
    if config.level == 2 and throws:
        places = np.array([throw.position for throw in throws])
        widest = float(np.degrees(np.max(np.abs(np.arctan2(places[:, 0], places[:, 1])))))
        likely = (widest, widest * CHANCE ** (-1 / len(throws)))
        rules.append(("spawn_angle_degrees", likely, config.spawn_angle_degrees))
    found = [
        Rule(name, measured[0], measured[1], simulated) for name, measured, simulated in rules if measured
    ]
    return [rule for rule in found if not rule.low * (1 - 1e-5) <= rule.simulated <= rule.high * (1 + 1e-5)]


def _range(middle: np.ndarray, slack: np.ndarray) -> tuple[float, float] | None:
    """The middle half of the measurements, with their own errors; None if there are few."""
    if len(middle) < LEAST:
        return None
    low, high = np.quantile(middle, 0.25), np.quantile(middle, 0.75)
    return float(low - np.median(slack)), float(high + np.median(slack))


def _of_flight(session: Session, flights: Flights) -> Any:
    """Gravity and restitution. The horizontal way tells the time, whatever the two are."""
    start, end = flights.start.astype(float), flights.finish.astype(float)
    way = np.sqrt(np.sum((end - start)[:, POSITION] ** 2, axis=1))
    fast, slow = (np.sqrt(np.sum(rows[:, VELOCITY] ** 2, axis=1)) for rows in (start, end))
    exact = rounding(start, end, 2 + MORE_FRAMES * session.config.fps * way / slow, way / slow)
    straight = (flights.bounces == 0) & (way > 0)
    seconds = np.full(len(session), np.nan)
    seconds[flights.end[straight]] = (way / slow)[straight]
    fall = (start[:, FALL] - end[:, FALL])[straight] / (way / slow)[straight]
    slack = (exact[:, FALL] + 10 * exact[:, 0] / slow)[straight] / (way / slow)[straight]
    gravity = _range(fall, slack)
    once = (flights.bounces == 1) & ~np.isnan(seconds[flights.end])
    total, pull = seconds[flights.end][once], np.mean(gravity) if gravity else 9.8
    first = (way[once] - slow[once] * total) / (fast - slow)[once]
    share = (end[once, FALL] + pull * (total - first)) / (pull * first - start[once, FALL])
    return gravity, _range(share, 40 * exact[once, 0] / (fast - slow)[once])


def _friction(session: Session) -> tuple[float, float] | None:
    """From horizontal velocities that became slower and kept their direction."""
    table = session.arrays["observation"][:, 5:STANDARD_SIZE].astype(float)
    velocity = table.reshape(-1, OBSERVED_PROJECTILES, 6)[..., VELOCITY]
    before, after = velocity[:-1, :, None], velocity[1:, None]
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    along = np.sum(before * after, axis=-1)
    square = np.sum(before**2, axis=-1)
    ratio = along / np.where(square > 0, square, 1)
    slower = (along > 0) & (np.abs(cross) < SAME_DIRECTION * along) & (np.abs(ratio - 1) > SAME_DIRECTION)
    # Most bounced once.
    return _range(ratio[slower], np.full(int(slower.sum()), SAME_DIRECTION))


def _speed(session: Session, handled: Handled) -> tuple[float, float] | None:
    shown = session.arrays["observation"][:, 3:5].astype(float)
    sent = handled.velocity[handled.count].astype(float)
    speeds = np.sqrt(np.sum(sent**2, axis=1))
    told = speeds > 0
    ratio = np.sqrt(np.sum(shown**2, axis=1))[told] / speeds[told] * session.config.player_speed
    return _range(ratio, ratio * 1e-6)


def _interval(throws: list[Throw], clock: Clock, usual: float) -> tuple[float, float] | None:
    """Of throws whose times are all known: the longest time in a row over the number of throws."""
    longest, anchor, number, best = 0.0, None, 0, None
    for earlier, throw in itertools.pairwise([*throws[:1], *throws]):
        if anchor is None or not clock.steady(earlier.response, throw.response):
            anchor, number = throw, 0
            continue
        step = sum(clock.between(earlier.response, throw.response)) / 2 + earlier.age - throw.age
        number += max(round(step / usual), 1)
        total = sum(clock.between(anchor.response, throw.response)) / 2 + anchor.age - throw.age
        wait = clock.longest_near(throw.response - 1, throw.response)
        if number >= LEAST and total > longest:
            longest, best = total, ((total - wait) / number, (total + wait) / number)
    return best
