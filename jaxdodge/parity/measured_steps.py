"""The steps of a session, one by one: how many frames each lasted, how long, and what it showed."""

import numpy as np

from jaxdodge.parity.check_session import Followed
from jaxdodge.parity.flight import Time
from jaxdodge.recordings.npz import RecordingError
from jaxdodge.recordings.session import STEP, Session
from jaxdodge.recordings.timing_file import FRAME_RANGE, MOST_FRAMES, MOST_TO_DONE, StepTimings
from jaxdodge.sim.publish import OBSERVED_PROJECTILES, observed_projectiles
from jaxdodge.sim.systems import PLAYER_RADIUS, PROJECTILE_RADIUS


def pairs_of_steps(session: Session) -> np.ndarray:
    """Responses of steps that follow the response of a step, int."""
    is_step = session.arrays["kind"] == STEP
    return np.flatnonzero(is_step[1:] & is_step[:-1]) + 1


def measured_steps(
    session: Session,
    followed: Followed,
    moved: dict[int, float],
    handled_before: bool,
    to_done: int,
    least: int,
) -> StepTimings:
    """Every step whose frames projectiles tell; by the client's clock if those are too few.

    Args:
        session: with two steps in a row.
        followed: the session, checked.
        moved: by response, the frames that the player had moved by a new action.
        handled_before: whether a frame handles commands before it publishes.
        to_done: as `frames_to_done`.
        least: steps that must be told.

    Raises:
        RecordingError: in lockstep the client's clock tells nothing.
    """
    arrays, time, rows = session.arrays, followed.time, pairs_of_steps(session)
    received, waits = arrays["received_s"], arrays["received_s"] - arrays["sent_s"]
    told = rows if time is None else rows[~np.isnan(time.seconds[rows])]
    if time is not None and len(told) >= least and time.frames[told].any():
        rows, frames, seconds = told, time.frames[told], time.seconds[told]
        nominal = frames * (session.config.frame_nanoseconds / 1e9)
        if np.all(np.abs(seconds - nominal) <= time.error[told]):
            # Where a throw is due just as a frame ends, a nanosecond decides in which one it is.
            seconds = nominal
        handled = followed.handled.count == np.arange(len(session)) + 1
        known = [moved[row] for row in rows[handled[rows]] if row in moved]
        others = float(np.median(known)) if known and not precedes_motion(session, followed) else 0.0
        response = np.array([moved.get(int(row), others) if handled[row] else 0.0 for row in rows])
    elif followed.lockstep:
        raise RecordingError(
            f"{session.path}: cannot be measured: the server is in lockstep ({followed.lockstep}), and its "
            f"frames are not told by the client's clock; expected {least} steps with projectiles in vectors"
        )
    else:
        seconds = received[rows] - received[rows - 1]
        frames = np.maximum(np.round(seconds * session.config.fps), 1)
        # The frame that handles an action does not show it yet.
        response = waits[rows] * session.config.fps - 1
    kept = frames <= MOST_FRAMES
    frames, seconds, response = frames[kept].astype(np.int32), seconds[kept], response[kept]
    usual = seconds.sum() / frames.sum()
    length = np.clip(np.where(frames, seconds / np.maximum(frames, 1), usual) * 1e9, *FRAME_RANGE)
    response = np.clip(np.round(response), 0, frames).astype(np.int32)
    # In lockstep no frame passes before the first step, so that it is as long as any other.
    none = np.zeros(0, np.int32)
    before, after = (none, none) if followed.lockstep else _resets(session, usual, handled_before)
    return StepTimings(frames, np.round(length).astype(np.int32), response, before, after, to_done)


def precedes_motion(session: Session, followed: Followed) -> bool:
    """Whether a publication precedes the motion by the action that it answers, also where it shows
    the action: over gRPC, in real time.
    """
    return session.meta["transport"] == "grpc" and not followed.lockstep


def _resets(session: Session, usual: float, handled_before: bool) -> tuple[np.ndarray, np.ndarray]:
    """Frames before and after that of each reset, by the client's clock; see `StepTimings`.

    Of several resets in a row the last one counts: it removes what was thrown after the first.
    """
    kind, sent, received = (session.arrays[name] for name in ("kind", "sent_s", "received_s"))
    # The responses before and after the resets, which may be several.
    steps = np.flatnonzero(kind == STEP)
    around = np.flatnonzero(np.diff(steps) > 1)
    last, first = steps[around], steps[around + 1]
    frames = np.maximum(np.round((received[first] - received[last]) / usual), 1)
    # What HTTP shows was published half a frame ago, on average.
    age = 0.0 if session.meta["transport"] == "grpc" else 0.5
    # A frame that handles commands after it publishes resets one publication later.
    before = np.floor((sent[first - 1] - received[last]) / usual + age) + (not handled_before)
    before = np.minimum(before, frames - 1)
    after = frames - 1 - before
    kept = frames <= MOST_FRAMES
    return before[kept].astype(np.int32), after[kept].astype(np.int32)


def frames_to_done(session: Session, time: Time | None) -> int | None:
    """Frames from the first publication that shows a hit to the one that says done, 0 to 2.

    Among steps of several frames few show a hit before they say done, but those count for all of
    their frames. None if there are too few hits to tell.
    """
    if time is None:
        return None
    arrays = session.arrays
    is_step, observation = arrays["kind"] == STEP, arrays["observation"].astype(float)
    flying = np.arange(OBSERVED_PROJECTILES) < arrays["projectile_count"][:, None]
    squares = np.sum((observed_projectiles(observation)[..., :3] - observation[:, None, :3]) ** 2, axis=2)
    hit = is_step & np.any(flying & (squares < float(PLAYER_RADIUS + PROJECTILE_RADIUS) ** 2), axis=1)
    waited, frames = [], []
    for end in np.flatnonzero(is_step[1:] & arrays["done"][1:] & ~arrays["done"][:-1]) + 1:
        first = end
        while first and hit[first - 1]:
            first -= 1
        waited.append(int(time.frames[first + 1 : end + 1].sum()))
        frames.append(int(time.frames[end]))
    # Of steps of k frames one in k shows a frame's wait: this many have a standard error of 1 / 4.
    if not waited or len(waited) < 16 * (np.mean(frames) - 1):
        return None
    return min(round(float(np.mean(waited))), MOST_TO_DONE)
