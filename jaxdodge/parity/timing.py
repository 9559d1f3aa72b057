"""How a server is really played: its frames, and when it answers; measured from an API session.

A real server runs in its own time. How many frames pass per step, and which of them is answered, is
decided by the client's speed, by the transport and by the order of systems that this start of the
server has drawn. Source: `parity/README.md`, "What a step of the real server means".
"""

import dataclasses
from typing import Any

import numpy as np

from jaxdodge.parity.check_session import Followed, first_difference, follow_session
from jaxdodge.parity.measured_steps import (
    frames_to_done,
    measured_steps,
    pairs_of_steps,
    precedes_motion,
)
from jaxdodge.recordings.npz import RecordingError
from jaxdodge.recordings.session import STEP, Session
from jaxdodge.recordings.timing_file import StepTimings

LEAST = 20
"""Steps that must tell something before it is called measured."""


@dataclasses.dataclass(frozen=True)
class MeasuredTiming:
    """The timing of one session. What could not be told is None, and `unknown` says why."""

    steps: int
    """Steps answered."""
    steps_per_second: float
    """Between two steps of an episode."""
    nominal_fps: float
    """What the session's file says."""
    frames_per_step: dict[int, int] | None
    """How many frames passed between two steps, with how often."""
    frames_by_clock: float
    """Frames per step by the client's clock: of the counted steps at their length of a frame, else
    of all steps at the nominal fps."""
    frame_seconds: float | None
    """Mean length of a frame."""
    frame_deviation: float | None
    """Standard deviation of it, as a share."""
    shows_action: float
    """Share of responses published after the action that they answer was handled."""
    response_frame: dict[int, int] | None
    """For how many frames the player had moved by that action, with how often."""
    handle_commands: str | None
    """Whether this start of the server handles commands before or after `publish_state`."""
    frames_to_done: int | None
    """See `StepTimings`."""
    step_timings: StepTimings
    """Every step that was measured."""
    unknown: tuple[str, ...]
    """What could not be told, and why."""
    difference: str = ""
    """The first difference from the simulator, empty if the session agrees with it."""

    @property
    def mean_frames_per_step(self) -> float:
        """Counted where frames can be counted, else by the clock at the nominal fps."""
        return self.frames_by_clock if self.frames_per_step is None else _mean(self.frames_per_step)

    def options(self) -> dict[str, Any]:
        """Options of the game and of a training for this timing; a spread becomes a jitter."""
        frames = max(1, round(self.mean_frames_per_step))
        options: dict[str, Any] = {"frames_per_step": frames}
        if self.response_frame is not None:
            options["response_frame"] = min(round(_mean(self.response_frame)), frames)
        fps = 1 / self.frame_seconds if self.frame_seconds else self.nominal_fps
        options["fps"] = round(float(np.clip(fps, 4, 1000)), 2)
        if self.frame_deviation is not None:
            # Uniform, with the same standard deviation.
            options["frame_time_jitter"] = round(min(float(np.sqrt(3)) * self.frame_deviation, 0.9), 3)
        if self.frames_per_step is not None:
            options["frames_per_step_jitter"] = _reach(self.frames_per_step, frames)
        if self.response_frame is not None:
            options["response_frame_jitter"] = _reach(self.response_frame, options["response_frame"])
        return options

    def lines(self) -> list[str]:
        """What was measured, for people."""
        lines = [f"game                 {self.difference or 'agrees with the simulator'}"]
        lines += [f"steps                {self.steps}, {self.steps_per_second:.2f} per second"]
        if self.frames_per_step is not None and self.frame_seconds is not None:
            counted = f"{self.mean_frames_per_step:.2f} counted ({_shares(self.frames_per_step)})"
            fps = f"{1 / self.frame_seconds:.2f} fps"
            frame = f"{1e3 * self.frame_seconds:.3f} ms, {fps} of {self.nominal_fps:g}"
            lines += [
                f"frames per step      {counted}; {self.frames_by_clock:.2f} by the clock at {fps}",
                f"frame                {frame}, deviation {self.frame_deviation:.1%}",
                f"mean of a step       {self._quantiles()} ms (0, 5, 50, 95, 100 %)",
            ]
        else:
            by_clock = f"{self.frames_by_clock:.2f} by the clock at {self.nominal_fps:g} fps"
            lines.append(f"frames per step      {by_clock}")
        lines.append(f"shows action sent    {self.shows_action:.1%} of responses")
        if self.response_frame is not None:
            lines.append(
                f"response frame       {_mean(self.response_frame):.2f} ({_shares(self.response_frame)})"
            )
        if self.handle_commands is not None:
            lines.append(f"handle_commands      {self.handle_commands} publish_state")
        if self.frames_to_done is not None:
            after = f"{self.frames_to_done}, from the publication that shows the hit"
            lines.append(f"frames to done       {after}")
        return lines + [f"unknown              {reason}" for reason in self.unknown]

    def _quantiles(self) -> str:
        """Of the frames' mean length in a step, ms."""
        lengths = self.step_timings.frame_ns[self.step_timings.frames > 0] / 1e6
        return ", ".join(f"{value:.1f}" for value in np.percentile(lengths, (0, 5, 50, 95, 100)))


def measure(session: Session, followed: Followed | None = None) -> MeasuredTiming:
    """Measure the timing of a session; `followed`, if it has been checked already.

    Raises:
        RecordingError: no two steps follow one another, or the server is in lockstep and nothing
            tells how many frames its steps last.
    """
    arrays = session.arrays
    is_step = arrays["kind"] == STEP
    between = pairs_of_steps(session)
    if not len(between):
        raise RecordingError(
            f"{session.path}: too short to measure; expected {LEAST} steps and more, at least two in a row"
        )
    followed = followed or follow_session(session)
    periods = np.diff(arrays["received_s"], prepend=0.0)
    period = periods[between].mean()
    frames_by_clock = float(period * session.config.fps)
    unknown = []
    frames_per_step = frame_seconds = deviation = None
    usual, counted = 1 / session.config.fps, np.zeros(0, int)
    if (time := followed.time) is not None:
        usual, counted = time.frame_seconds, between[~np.isnan(time.seconds[between])]
        # Sums over all frames, of their lengths and of the squares.
        told = ~np.isnan(time.squares)
        frames, seconds = int(time.frames[told].sum()), float(time.seconds[told].sum())
        squares = float(time.squares[told].sum())
    if time is not None and len(counted) >= LEAST and frames:
        frames_per_step = _counts(time.frames[counted].tolist())
        frame_seconds = seconds / frames
        frames_by_clock = float(periods[counted].mean() / frame_seconds)
        deviation = float(np.sqrt(max(squares / frames / frame_seconds**2 - 1, 0)))
    else:
        unknown.append(f"frames: projectiles tell them in {len(counted)} steps, fewer than {LEAST}")
    handled = followed.handled.count == np.arange(len(session)) + 1
    shows_action = float(handled[is_step].mean()) if is_step.any() else 0.0
    moved = _frames_moved(session, followed, usual)
    response_frame = None
    unless_told = 0.0 if precedes_motion(session, followed) else None
    told = [moved.get(int(i), unless_told) if handled[i] else 0.0 for i in np.flatnonzero(is_step)]
    known = [round(value) for value in told if value is not None]
    if not is_step.any() or len(known) < max(LEAST, len(told) / 4):
        unknown.append("response frame: too rarely can be told for how long the player moved")
    else:
        response_frame = _counts(known)
    order = _order(session, shows_action, usual)
    if order is None:
        unknown.append("order of handle_commands and publish_state: both give the same responses here")
    to_done = frames_to_done(session, followed.time)
    if to_done is None:
        unknown.append("frames from a hit to done: too few hits in steps of this many frames")
    return MeasuredTiming(
        steps=int(is_step.sum()),
        steps_per_second=float(1 / period),
        nominal_fps=session.config.fps,
        frames_per_step=frames_per_step,
        frames_by_clock=frames_by_clock,
        frame_seconds=frame_seconds,
        frame_deviation=deviation,
        shows_action=shows_action,
        response_frame=response_frame,
        handle_commands=order,
        frames_to_done=to_done,
        step_timings=measured_steps(session, followed, moved, order == "before", to_done or 0, LEAST),
        unknown=tuple(unknown),
        difference=first_difference(session, followed),
    )


def _frames_moved(session: Session, followed: Followed, frame_seconds: float) -> dict[int, float]:
    """By response: for how many frames the player had moved by its last action, if that is new."""
    count, velocity = followed.handled.count, followed.handled.velocity
    # Of two equal actions in a row it is not known when the second one began.
    new = np.any(velocity[count] != velocity[count - 1], axis=1)
    return {
        each.response: each.with_last / frame_seconds
        for each in followed.moved
        if each.commands > 1 and new[each.response] and session.arrays["kind"][each.response] == STEP
    }


def _order(session: Session, shows_action: float, frame_seconds: float) -> str | None:
    """Where in a frame commands are handled, from how often a response
    shows its action; None if unknown.

    gRPC answers with the first publication after a request, HTTP after a while with what is then
    published. If a frame handles before it publishes, an action takes one frame less to be shown.
    """
    arrays = session.arrays
    waits = (arrays["received_s"] - arrays["sent_s"])[arrays["kind"] == STEP]
    if len(waits) < LEAST:
        return None
    frames = 0.0 if session.meta["transport"] == "grpc" else float(np.median(waits)) / frame_seconds - 1
    if_after, if_before = np.clip([frames, frames + 1], 0, 1)
    if if_before - if_after < 0.3:
        return None
    share = (shows_action - if_after) / (if_before - if_after)
    return "before" if share > 0.75 else "after" if share < 0.25 else "now before, now after"


def _counts(values: list[int]) -> dict[int, int]:
    return {int(value): values.count(value) for value in sorted(set(values))}


def _mean(counts: dict[int, int]) -> float:
    return sum(value * count for value, count in counts.items()) / sum(counts.values())


def _reach(counts: dict[int, int], middle: int) -> int:
    """The jitter whose spread around a middle value is nearest to the measured one.

    Whole numbers drawn uniformly from -reach to reach have a mean
    square of reach * (reach + 1) / 3.
    """
    square = sum((value - middle) ** 2 * count for value, count in counts.items()) / sum(counts.values())
    reaches = np.arange(1 + max(abs(value - middle) for value in counts))
    return int(np.argmin(np.abs(reaches * (reaches + 1) / 3 - square)))


def _shares(counts: dict[int, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{value}: {count / total:.1%}" for value, count in counts.items())
