"""Check an API session: what a client saw of a server in real time,
against the simulator's own rules.

The server's frames are not known. What can be said exactly is said exactly: rewards and flags
from the same observation, velocities from the commands. How many frames passed, and how long
each was, is fitted; every projectile must then arrive where the simulator's own frames lead it,
within what rounding can leave.
"""

import dataclasses

import numpy as np

from jaxdodge.parity.clock import Clock, why_lockstep
from jaxdodge.parity.commands import Handled, handled_commands
from jaxdodge.parity.comparison import Result
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.flight import Flights, Time, fit_time, flown
from jaxdodge.parity.intervals import check_flights, check_gone, check_order, matched
from jaxdodge.parity.jumps import check_heights
from jaxdodge.parity.motion import Moved, check_motion
from jaxdodge.parity.pictures import check_pictures
from jaxdodge.parity.publications import check_done, check_publications
from jaxdodge.parity.rules import wrong_rules
from jaxdodge.parity.seen import check_seen
from jaxdodge.parity.throws import Throw, check_throws
from jaxdodge.recordings.session import STEP, Session

MOST_TORN = 0.01
"""Share of responses that may be read while a frame is published; by chance there may be more."""


@dataclasses.dataclass(frozen=True)
class Followed:
    """What the check of a session has found out about the server's frames."""

    findings: Findings
    handled: Handled
    flights: Flights | None = None
    """None for images, as are the next two."""
    time: Time | None = None
    clock: Clock | None = None
    throws: list[Throw] = dataclasses.field(default_factory=list)
    moved: list[Moved] = dataclasses.field(default_factory=list)
    error: float = 0.0
    """Largest deviation of a flight, as a share of its bound."""
    lockstep: str = ""
    """What shows that the server is in lockstep, see `why_lockstep`."""


def follow_session(session: Session) -> Followed:
    """Run every check of a session."""
    findings = Findings()
    handled = handled_commands(session, findings)
    check_done(session, handled, findings)
    if session.config.observation_mode == "topdown":
        pictures, palette = check_pictures(session, findings)
        check_seen(session, pictures, palette, handled, findings)
        return Followed(findings, handled, lockstep=why_lockstep(session, None))
    changes = matched(*check_publications(session, findings))
    flights = changes.flights
    time = fit_time(flights, len(session), session.config.fps)
    arrival, ratio = flown(flights, time)
    check_flights(flights, arrival, ratio, findings)
    clock = Clock(session, time, handled)
    check_order(session, changes, handled, findings)
    check_gone(session, changes, handled, clock, findings)
    throws = check_throws(session, changes, handled, clock, findings)
    moved = check_motion(session, handled, clock, findings)
    check_heights(session, handled, clock, findings)
    error, lockstep = float(ratio.max(initial=0)), why_lockstep(session, time)
    return Followed(findings, handled, flights, time, clock, throws, moved, error, lockstep)


def first_difference(session: Session, followed: Followed) -> str:
    """The first difference from the simulator, and the rules that look wrong; empty if none."""
    differences, torn = list(followed.findings.differences), followed.findings.torn
    expected = MOST_TORN * len(session)
    if len(torn) > 1 + expected + 3 * expected**0.5:
        first = min(torn)
        text = f"{len(torn)} responses do not fit together, far more than {MOST_TORN:.0%}; the first is "
        differences.append((first, text + torn[first]))
    texts = [" ".join(text.split()) for _, text in sorted(differences, key=lambda each: each[0])[:1]]
    if followed.lockstep:
        wanted = "a server in real time, not in lockstep, because the clock tells when throws are due"
        return ": ".join([f"{followed.lockstep}; expected {wanted}", *texts])
    if not texts or followed.flights is None or followed.clock is None:
        return "".join(texts)
    wrong = wrong_rules(session, followed.handled, followed.flights, followed.clock, followed.throws)
    return "; ".join([*texts, *(f"looks wrong: {rule}" for rule in wrong)])


def check_session(session: Session) -> Result:
    """Compare a session with the simulator; the first difference, or what agrees."""
    followed = follow_session(session)
    return Result(
        path=session.path,
        frames=0 if followed.time is None else int(followed.time.frames.sum()),
        values=followed.findings.values,
        images=len(session.arrays.get("image", ())),
        agreement=_agreement(session, followed),
        difference=first_difference(session, followed),
    )


def _agreement(session: Session, followed: Followed) -> str:
    torn = len(followed.findings.torn)
    share = f" ({torn / len(session):.1%})" if torn else ""
    responses = "1 response" if len(session) == 1 else f"{len(session)} responses"
    parts = [f"agrees: {responses}, {torn} torn{share}"]
    time = followed.time
    if time is not None and np.any(steps := (session.arrays["kind"] == STEP) & ~np.isnan(time.seconds)):
        parts.append(f"flight within {followed.error:.2f} of its bound")
        parts.append(f"{time.frames[steps].mean():.2f} frames per step")
        parts.append(f"{len(followed.throws)} throws")
    return ", ".join(parts)
