"""The steps of a session, one by one: how many frames each lasted, how long, and what it showed."""

import numpy as np

from jaxdodge.parity.check_session import Followed
from jaxdodge.recordings.session import RESET, STEP, Session
from jaxdodge.recordings.timing_file import FRAME_RANGE, MOST_FRAMES, StepTimings


def pairs_of_steps(session: Session) -> np.ndarray:
    """Responses of steps that follow the response of a step, int."""
    is_step = session.arrays["kind"] == STEP
    return np.flatnonzero(is_step[1:] & is_step[:-1]) + 1


def measured_steps(session: Session, followed: Followed, moved: dict[int, float], least: int) -> StepTimings:
    """Every step whose frames projectiles tell; by the client's clock if those are too few.

    Args:
        session: with two steps in a row.
        followed: the session, checked.
        moved: by response, the frames that the player had moved by a new action.
        least: steps that must be told.
    """
    arrays, time, rows = session.arrays, followed.time, pairs_of_steps(session)
    received, waits = arrays["received_s"], arrays["received_s"] - arrays["sent_s"]
    told = rows if time is None else rows[~np.isnan(time.seconds[rows])]
    if time is not None and len(told) >= least and time.frames[told].any():
        rows, frames, seconds = told, time.frames[told], time.seconds[told]
        handled = followed.handled.count == np.arange(len(session)) + 1
        known = [moved[row] for row in rows if row in moved]
        others = float(np.median(known)) if known and session.meta["transport"] != "grpc" else 0.0
        response = np.array([moved.get(int(row), others) if handled[row] else 0.0 for row in rows])
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
    return StepTimings(frames, np.round(length).astype(np.int32), response, _after_resets(session, usual))


def _after_resets(session: Session, usual: float) -> np.ndarray:
    """Frames from that of a reset to the response of the next step, by the client's clock."""
    kind, received = session.arrays["kind"], session.arrays["received_s"]
    is_reset = np.append(kind == RESET, False)
    first = np.flatnonzero(is_reset[:-1] & ~np.insert(is_reset[:-2], 0, False))
    ends = np.array([next((i for i in range(at, len(kind)) if kind[i] == STEP), 0) for at in first], int)
    seconds = received[ends] - session.arrays["sent_s"][first]
    return np.clip(np.round(seconds / usual) - 1, 0, MOST_FRAMES)[ends > 0].astype(np.int32)
