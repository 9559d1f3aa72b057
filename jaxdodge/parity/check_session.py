"""Check an API session: what a client saw of a server in real time, against the simulator's own rules.

The server's frames are not known. What can be said exactly is said exactly: rewards and flags from the same
observation, velocities from the commands. How many frames passed, and how long each was, is fitted; every
projectile must then arrive where the simulator's own frames lead it, within what rounding can leave.
"""

import dataclasses

import numpy as np

from jaxdodge.parity.check import Result
from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled, handled_commands
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.intervals import Interval, follow
from jaxdodge.parity.jumps import check_heights
from jaxdodge.parity.motion import Moved, check_motion
from jaxdodge.parity.pictures import check_pictures
from jaxdodge.parity.publications import check_publications
from jaxdodge.parity.seen import check_seen
from jaxdodge.parity.throws import Throw, check_throws
from jaxdodge.recordings.session import STEP, Session

MOST_TORN = 0.01
"""Share of responses that may be read while a frame is published; one always may."""


@dataclasses.dataclass(frozen=True)
class Followed:
    """What the check of a session has found out about the server's frames."""

    findings: Findings
    handled: Handled
    intervals: list[Interval]
    """Empty for images, as are the next two."""
    throws: list[Throw]
    moved: list[Moved]
    frame_seconds: float
    """The usual length of a frame; the nominal one for images."""


def follow_session(session: Session) -> Followed:
    """Run every check of a session."""
    findings = Findings()
    handled = handled_commands(session, findings)
    nominal = 1 / session.config.fps
    if session.config.observation_mode == "topdown":
        pictures, palette = check_pictures(session, findings)
        check_seen(session, pictures, palette, handled, findings)
        return Followed(findings, handled, [], [], [], nominal)
    rows = check_publications(session, nominal, findings)
    intervals, frame_seconds = follow(session, rows, handled, findings)
    clock = Clock(session, intervals, frame_seconds)
    throws = check_throws(session, rows, intervals, handled, clock, findings)
    moved = check_motion(session, handled, clock, findings)
    check_heights(session, handled, clock, findings)
    return Followed(findings, handled, intervals, throws, moved, frame_seconds)


def check_session(session: Session) -> Result:
    """Compare a session with the simulator; the first difference, or what agrees."""
    followed = follow_session(session)
    findings, fits = followed.findings, [i.fit for i in followed.intervals if i.fit is not None]
    differences = sorted(findings.differences, key=lambda difference: difference[0])
    torn = len(findings.torn)
    if torn > max(1, MOST_TORN * len(session)):
        first = min(findings.torn)
        share = f"{torn} responses do not fit together, more than {MOST_TORN:.0%}; the first is "
        differences.append((first, share + findings.torn[first]))
    return Result(
        path=session.path,
        frames=sum(fit.frames for fit in fits),
        values=findings.values,
        images=len(session.arrays.get("image", ())),
        agreement=_agreement(session, followed),
        difference=min(differences, key=lambda difference: difference[0])[1] if differences else "",
    )


def _agreement(session: Session, followed: Followed) -> str:
    fits = [interval.fit for interval in followed.intervals if interval.fit is not None]
    torn = len(followed.findings.torn)
    share = f" ({torn / len(session):.1%})" if torn else ""
    parts = [f"agrees: {len(session)} responses, {torn} torn{share}"]
    if fits:
        steps = [i for i in followed.intervals if i.fit and session.arrays["kind"][i.end] == STEP]
        parts.append(f"flight within {max(fit.error for fit in fits):.2f} of its bound")
        parts.append(f"{np.mean([i.fit.frames for i in steps if i.fit]):.2f} frames per step")
        parts.append(f"{len(followed.throws)} throws")
    return ", ".join(parts)
