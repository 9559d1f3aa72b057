"""The steps of a session, one by one: how many frames each lasted, how long, and what it showed."""

import numpy as np

from jaxdodge.parity.check_session import Followed
from jaxdodge.parity.flight import Time
from jaxdodge.recordings.session import STEP, Session
from jaxdodge.recordings.timing_file import FRAME_RANGE, MOST_FRAMES, MOST_TO_DONE, StepTimings
from jaxdodge.sim.publish import OBSERVED_PROJECTILES, STANDARD_SIZE
from jaxdodge.sim.systems import PLAYER_RADIUS, PROJECTILE_RADIUS

# Of the projectiles in an observation, after the player's position and velocity.
PROJECTILES = slice(5, STANDARD_SIZE)


def pairs_of_steps(session: Session) -> np.ndarray:
    """Responses of steps that follow the response of a step, int."""
    is_step = session.arrays["kind"] == STEP
    return np.flatnonzero(is_step[1:] & is_step[:-1]) + 1


def measured_steps(
    session: Session, followed: Followed, moved: dict[int, float], handled_before: bool, least: int
) -> StepTimings:
    """Every step whose frames projectiles tell; by the client's clock if those are too few.

    Args:
        session: with two steps in a row.
        followed: the session, checked.
        moved: by response, the frames that the player had moved by a new action.
        handled_before: whether a frame handles commands before it publishes.
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
    return StepTimings(
        frames,
        np.round(length).astype(np.int32),
        response,
        *_resets(session, usual, handled_before),
        _frames_to_done(session, time),
    )


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
    # A frame that handles commands after it publishes resets one publication later.
    before = np.floor((sent[first - 1] - received[last]) / usual) + (not handled_before)
    before = np.clip(before, 0, np.minimum(frames - 1, MOST_FRAMES))
    after = np.clip(frames - 1 - before, 0, MOST_FRAMES)
    return before.astype(np.int32), after.astype(np.int32)


def _frames_to_done(session: Session, time: Time | None) -> int:
    """Frames from the first publication that shows a hit to the one that says done, 0 to 2.

    Among steps of several frames few show a hit before they say done, but those count for all of
    their frames. 0, as in the simulator's own order, if there are too few hits to tell.
    """
    if time is None:
        return 0
    arrays = session.arrays
    is_step, observation = arrays["kind"] == STEP, arrays["observation"].astype(float)
    projectiles = observation[:, PROJECTILES].reshape(-1, OBSERVED_PROJECTILES, 6)
    flying = np.arange(OBSERVED_PROJECTILES) < arrays["projectile_count"][:, None]
    squares = np.sum((projectiles[..., :3] - observation[:, None, :3]) ** 2, axis=2)
    hit = is_step & np.any(flying & (squares < float(PLAYER_RADIUS + PROJECTILE_RADIUS) ** 2), axis=1)
    waited, lasted = [], []
    for end in np.flatnonzero(is_step[1:] & arrays["done"][1:] & ~arrays["done"][:-1]) + 1:
        first = end
        while first and hit[first - 1]:
            first -= 1
        waited.append(int(time.frames[first + 1 : end + 1].sum()))
        lasted.append(int(time.frames[end]))
    if not waited or len(waited) < np.mean(lasted) ** 2:
        return 0
    return min(round(float(np.mean(waited))), MOST_TO_DONE)
