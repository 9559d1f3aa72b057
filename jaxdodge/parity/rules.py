"""Which rule of a session's game looks wrong, and by how much: the game's
constants, fitted to the session.

Nothing here decides whether a session agrees. The constants explain to a user why one does not.
"""

import numpy as np

from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.flight import FALL, MORE_FRAMES, POSITION, VELOCITY, Flights, length, rounding
from jaxdodge.parity.throws import CHANCE, Throw
from jaxdodge.recordings.session import Session
from jaxdodge.sim import systems
from jaxdodge.sim.publish import observed_projectiles

SAME_DIRECTION = 1e-6
LEAST = 3
"""Measurements that give a range."""
Range = tuple[float, float] | None
"""Least and largest value; None if there are too few measurements."""


def wrong_rules(
    session: Session, handled: Handled, flights: Flights, clock: Clock, throws: list[Throw]
) -> list[str]:
    """The constants whose fitted range does not hold the simulator's value, as text."""
    config = session.config
    gravity, restitution = _of_flight(session, flights)
    likely: Range = None
    if config.level == 2 and throws:
        places = np.array([throw.position for throw in throws])
        widest = float(np.degrees(np.max(np.abs(np.arctan2(places[:, 0], places[:, 1])))))
        likely = (widest, widest * CHANCE ** (-1 / len(throws)))
    rules = {
        "gravity": (gravity, float(systems.PROJECTILE_GRAVITY)),
        "restitution": (restitution, float(systems.RESTITUTION)),
        "friction": (_friction(session), float(systems.FRICTION)),
        "player_speed": (_speed(session, handled), config.player_speed),
        "projectile_spawn_interval": (
            _interval(throws, clock, config.projectile_spawn_interval),
            config.projectile_spawn_interval,
        ),
        "spawn_angle_degrees": (likely, config.spawn_angle_degrees),
    }
    return [
        f"{name} {measured[0]:.6g} to {measured[1]:.6g}, simulated {simulated:.6g}"
        for name, (measured, simulated) in rules.items()
        if measured and not measured[0] * (1 - 1e-5) <= simulated <= measured[1] * (1 + 1e-5)
    ]


def _range(middle: np.ndarray, slack: np.ndarray) -> Range:
    """The middle half of the measurements, with their own errors."""
    if len(middle) < LEAST:
        return None
    low, high = np.quantile(middle, (0.25, 0.75))
    return float(low - np.median(slack)), float(high + np.median(slack))


def _of_flight(session: Session, flights: Flights) -> tuple[Range, Range]:
    """Gravity and restitution. The horizontal way tells the time, whatever the two are."""
    start, end = flights.start.astype(float), flights.finish.astype(float)
    way = length((end - start)[:, POSITION])
    fast, slow = (length(rows[:, VELOCITY]) for rows in (start, end))
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


def _friction(session: Session) -> Range:
    """From horizontal velocities that became slower and kept their direction."""
    velocity = observed_projectiles(session.arrays["observation"])[..., VELOCITY].astype(float)
    before, after = velocity[:-1, :, None], velocity[1:, None]
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    along, square = np.sum(before * after, axis=-1), np.sum(before**2, axis=-1)
    ratio = along / np.where(square > 0, square, 1)
    slower = (along > 0) & (np.abs(cross) < SAME_DIRECTION * along) & (np.abs(ratio - 1) > SAME_DIRECTION)
    # Most bounced once.
    return _range(ratio[slower], np.full(int(slower.sum()), SAME_DIRECTION))


def _speed(session: Session, handled: Handled) -> Range:
    shown = length(session.arrays["observation"][:, 3:5].astype(float))
    sent = length(handled.velocity[handled.count].astype(float))
    ratio = (shown / np.where(sent > 0, sent, 1))[sent > 0] * session.config.player_speed
    return _range(ratio, ratio * 1e-6)


def _interval(throws: list[Throw], clock: Clock, usual: float) -> Range:
    """The longest time of throws that are all known, over the number of throws in it."""
    response = np.array([throw.response for throw in throws], int)
    age = np.array([throw.age for throw in throws])
    first, last = response[:-1], response[1:]
    steady = clock.steady(first, last)
    seconds = np.where(steady, np.mean(clock.between(first, last), axis=0) + age[:-1] - age[1:], 0)
    number = np.where(steady, np.maximum(np.round(seconds / usual), 1), 0)
    runs = np.split(np.arange(len(first)), np.flatnonzero(~steady))
    longest = max(runs, key=lambda run: seconds[run].sum() if number[run].sum() >= LEAST else 0.0)
    total, count = float(seconds[longest].sum()), float(number[longest].sum())
    if count < LEAST:
        return None
    end = int(last[longest[-1]])
    wait = clock.longest_near(end - 1, end)
    return (total - wait) / count, (total + wait) / count
