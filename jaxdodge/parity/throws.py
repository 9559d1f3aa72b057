"""New projectiles against the law of throws: from where, aimed at whom, and when.

A projectile that is seen for the first time has flown for some frames already. For how long follows
from its fall, so its birth is known: the place must be one that the simulator throws from, the
velocity must aim at where the player was, and births must keep the rhythm of the spawn timer.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.flight import FALL, MORE_FRAMES, VELOCITY, Z, length, rounding
from jaxdodge.parity.intervals import SHORTEST_LIFE, Changes
from jaxdodge.parity.simulated import a_frame, map_rows
from jaxdodge.recordings.session import Session
from jaxdodge.sim import systems
from jaxdodge.sim.params import SPAWN_DISTANCE, GameParams, game_params
from jaxdodge.sim.publish import OBSERVED_PROJECTILES, STANDARD_SIZE
from jaxdodge.sim.state import server_start
from jaxdodge.sim.systems import spawn_position, spawn_projectiles

AT_START = 1.0
"""Seconds after the first request, in which throws are not checked."""
AIM = 1e-3
"""Metres; by how much rounding may shift where a throw aims at."""
CHANCE = 1e-9
"""Of a session of the configured angle whose throws all stay as far inside
it as is called a difference.
"""


@dataclasses.dataclass(frozen=True)
class Throw:
    """A projectile's birth."""

    response: int
    """The first that shows it."""
    age: float
    """Seconds that it has moved by then."""
    error: float
    """By how much that can be wrong."""
    position: np.ndarray
    """(2,): where it appeared."""
    velocity: np.ndarray
    """(2,): horizontal."""
    draw: float
    """The random number that gives this place, 0 to 1."""


class Law:
    """What the simulator throws, with this configuration."""

    def __init__(self, session: Session) -> None:
        self._params = params = game_params(session.config)
        self.height, self.climb = map(float, _thrown(params))
        self.on_arc, self.angle = session.config.random_spawn_position, float(params.spawn_angle)
        self.flight_seconds = float(
            systems.FLIGHT_SECONDS_ARC if self.on_arc else systems.FLIGHT_SECONDS_LINE
        )
        thrower = session.config.observation_mode == "with_thrower"
        self.delay = float(session.config.thrower_delay_seconds) if thrower else 0.0

    def draws(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The random numbers that lead nearest to places (n, 2), and the distances in metres."""
        if self.on_arc:
            draws = np.arctan2(places[:, 0], places[:, 1]) / (2 * self.angle) + 0.5
        else:
            draws = (places[:, 0] + 1.5) / 3
        draws = np.clip(draws, 0, 1)
        x, y = map_rows(spawn_position, draws.astype(np.float32), self._params)
        return draws, length(np.stack([x, y], axis=1) - places)


@jax.jit
def _thrown(params: GameParams) -> tuple[jax.Array, jax.Array]:
    """Height and vertical velocity of a throw."""
    params = params.replace(observation_mode=jnp.int32(0))
    state = server_start(1, 1).replace(spawn_timer=params.spawn_interval)
    thrown = spawn_projectiles(state, params, a_frame()).spawned_projectile
    return thrown.position.z, thrown.velocity.z


def check_throws(
    session: Session, changes: Changes, handled: Handled, clock: Clock, findings: Findings
) -> list[Throw]:
    """Check the birth of every new projectile; returns them in the order of their births."""
    law = Law(session)
    throws, untold = _births(session, changes, clock, law, findings)
    for throw in throws:
        slack = throw.error + clock.longest_near(throw.response - 1, throw.response) * (2 if law.delay else 1)
        ago = throw.age + law.delay
        low, high = clock.player_between(throw.response, ago - slack, ago + slack)
        target = throw.position + throw.velocity * law.flight_seconds
        if np.any(target < low - AIM) or np.any(target > high + AIM):
            text = f"a player between {low} and {high}"
            findings.add(throw.response, f"throw from {throw.position}, aim", target, text)
    # Of two in one response, the table's order is not always that of their births.
    throws.sort(key=lambda throw: (throw.response, -throw.age))
    _check_rhythm(session, throws, untold, handled, clock, law, findings)
    # Throws come from the whole angle, not only from inside of it.
    widest = max((abs(2 * throw.draw - 1) for throw in throws), default=1.0)
    if widest ** len(throws) < CHANCE:
        text = f"none beyond {widest:.2%} of the angle in {len(throws)} throws"
        findings.add(throws[-1].response, "places of throws", text, "up to the whole angle")
    if law.delay:
        _check_indicators(session, throws, clock, law, findings)
    return throws


def _births(
    session: Session, changes: Changes, clock: Clock, law: Law, findings: Findings
) -> tuple[list[Throw], list[int]]:
    """Throws, and responses with new rows of unknown birth."""
    count, times = session.arrays["projectile_count"], session.arrays["received_s"]
    since = times - session.arrays["sent_s"][0]
    # Of more it may have been there before, unobserved.
    seen = np.maximum(count, np.roll(count, 1)) <= OBSERVED_PROJECTILES
    # It may come of an indicator from before the configuration, which survives it.
    end, column = np.nonzero(changes.new & (seen & (since >= AT_START + law.delay))[:, None])
    findings.values += 6 * len(end)
    seen_row = changes.table[end, column]
    row, gravity = seen_row.astype(float), float(systems.PROJECTILE_GRAVITY)
    age = (law.climb - row[:, FALL]) / gravity
    start = row.copy()
    start[:, Z], start[:, FALL] = law.height, law.climb
    exact = rounding(start, row, 2 + MORE_FRAMES * np.abs(age) / clock.frame_seconds, np.abs(age))
    error = exact[:, FALL] / gravity
    age = np.where(np.abs(age) <= error, 0.0, age)
    # The fall tells the time, the height the sum of the squares: that of one frame at most.
    squares = 2 * (law.height + law.climb * age - row[:, Z]) / gravity - age**2
    slack = 4 * (exact[:, Z] + (law.climb + gravity * np.abs(age)) * error) / gravity
    least = age**2 / (2 + 2 * np.round(np.abs(age) / clock.frame_seconds))
    passed = clock.between(end - 1, end)[1]
    possible = (age >= 0) & (age <= passed + error + clock.longest_frame)
    possible &= (squares >= least - slack) & (squares <= age**2 + slack)
    short = passed + 2 * clock.longest_frame < SHORTEST_LIFE
    for at in np.flatnonzero(short & ~possible):
        text = f"from a height of {law.height:.6g}, {law.climb:.6g} m/s up, {passed[at]:.4f} s before at most"
        findings.add(end[at], f"projectile {column[at]}, just thrown", seen_row[at], text)
    places = row[:, :2] - row[:, VELOCITY] * age[:, None]
    draws, away = law.draws(places)
    bound = exact[:, :2].max(axis=1) + length(row[:, VELOCITY]) * error + np.spacing(SPAWN_DISTANCE) * 4
    told = possible & (short | ((away <= bound) & (age < SHORTEST_LIFE)))
    for at in np.flatnonzero(told & (away > bound)):
        text = f"{away[at]:.3g} m from every place of a throw"
        findings.add(end[at], f"projectile {column[at]}, thrown from {places[at]}", "seen", text)
    born = zip(end.tolist(), age, error, places, row[:, VELOCITY], draws, strict=True)
    throws = [Throw(*each) for each, known in zip(born, told, strict=True) if known]
    return throws, end[~told].tolist()


def _check_rhythm(
    session: Session,
    throws: list[Throw],
    untold: list[int],
    handled: Handled,
    clock: Clock,
    law: Law,
    findings: Findings,
) -> None:
    """The timer fires at whole multiples of its interval after a moment common to all throws.

    A throw appears at the end of the frame in which that happens; after a delay, one frame later
    at most.
    """
    interval = float(session.config.projectile_spawn_interval)
    count, sent = session.arrays["projectile_count"], session.arrays["sent_s"]
    anchor: Throw | None = None
    number, least, largest = 0, 0.0, 0.0
    for earlier, throw in itertools.pairwise([*throws[:1], *throws]):
        waits = clock.longest_near(throw.response - 1, throw.response) + throw.error
        if law.delay:
            announced = clock.response_before(throw.response, throw.age + law.delay + clock.longest_frame)
            waits += clock.longest_near(announced, throw.response)
        lost = True
        if anchor is not None:
            low, high = clock.between(anchor.response, throw.response)
            low, high = low + anchor.age - throw.age - waits, high + anchor.age - throw.age + throw.error
            fewest = int(np.ceil((low - largest) / interval - 1e-9))
            most = int(np.floor((high - least) / interval + 1e-9))
            lost = clock.stalled(anchor.response, throw.response) or high - low > interval or fewest < most
        if anchor is None or lost:
            # The timer fired so many seconds after the anchor's birth, and then once an interval.
            anchor, number, least, largest = throw, 0, -waits, throw.error
            continue
        findings.values += 1
        if fewest > most or most <= number:
            expected = f"{max(number + 1, most)} x {interval:.6g} s, at most {waits:.4f} s more"
            gap = f"{(low + high + waits) / 2:.4f} s after that of response {anchor.response}"
            findings.add(throw.response, "throw", gap, expected)
            anchor = None
            continue
        excused = (
            most == number + 1
            or handled.reset_around(earlier.response, throw.response)
            or np.any(count[earlier.response - 1 : throw.response + 1] > OBSERVED_PROJECTILES)
            or any(earlier.response <= response <= throw.response for response in untold)
            or np.diff(sent[earlier.response - 1 : throw.response + 1]).max() > SHORTEST_LIFE
        )
        if not excused:
            findings.add(throw.response, "throws since the one before", 1, most - number)
        number = most
        least, largest = max(least, low - most * interval), min(largest, high - most * interval)


def _check_indicators(
    session: Session, throws: list[Throw], clock: Clock, law: Law, findings: Findings
) -> None:
    indicator = session.arrays["observation"][:, STANDARD_SIZE:].astype(float)
    findings.values += indicator.size
    shown = np.flatnonzero(np.any(indicator != 0, axis=1))
    away = law.draws(indicator[:, :2])[1]
    bound = float(np.spacing(SPAWN_DISTANCE) * 4)
    height, left = np.float32(law.height), indicator[:, 3]
    for response in shown:
        if away[response] > bound or np.float32(indicator[response, 2]) != height:
            text = f"none that stands {away[response]:.3g} m from every place of a throw"
            findings.add(response, "observation[65:68]", indicator[response, :3], text)
        if not 0 <= left[response] <= 1:
            findings.add(response, "observation[68]", left[response], "0 to 1")
    for earlier, later in itertools.pairwise(shown.tolist()):
        same = np.all(indicator[earlier, :2] == indicator[later, :2])
        if later != earlier + 1 or not same or left[later] == 0:
            continue
        low, high = clock.between(earlier, later)
        passed = (left[earlier] - left[later]) * law.delay
        slack = clock.longest_near(earlier - 1, later) + 2 * law.delay * float(np.spacing(np.float32(1)))
        if not low - slack <= passed <= high + slack:
            text = f"less by {low:.4f} to {high:.4f} s of the delay"
            findings.add(later, "observation[68]", f"less by {passed:.4f} s", text)
    # Only one is pending at a time, so it is the one that throws.
    single = law.delay < float(session.config.projectile_spawn_interval) - 2 * clock.longest_frame
    for throw in throws if single else ():
        before, (low, high) = throw.response - 1, clock.between(throw.response - 1, throw.response)
        fires, slack = left[before] * law.delay + throw.age, 1.5 * clock.longest_frame
        if before not in shown or not low - slack <= fires <= high + slack:
            continue
        off = float(length(indicator[before, :2] - throw.position))
        if off > 1e-3:
            text = f"{indicator[before, :2]}, the indicator's"
            findings.add(throw.response, "place of a throw", throw.position, text)
