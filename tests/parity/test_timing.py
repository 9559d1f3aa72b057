"""`parity timing` over servers whose frames are known, and of a real process."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from served import running
from simulated_server import order_with, simulated_session

from jaxdodge.config import GameConfig
from jaxdodge.parity.check_session import follow_session
from jaxdodge.parity.timing import measure
from jaxdodge.recordings.npz import RecordingError
from jaxdodge.recordings.session import RESET, STEP, read_session
from jaxdodge.recordings.timing_file import read_options, read_steps

RECORDINGS = Path(__file__).parents[2] / "parity" / "recordings"
DENSE = {
    "level": 2,
    "action_space_type": "basic_3d",
    "spawn_angle_degrees": 20.0,
    "projectile_spawn_interval": 0.1,
}
BEFORE = order_with("handle_commands", "publish_state", 1)
AFTER = order_with("publish_state", "handle_commands", 2)
CASES = {
    "grpc, at once": ("grpc", 60.0, 0.0, 0.02, AFTER),
    "grpc, at once, handled before": ("grpc", 60.0, 0.0, 0.02, BEFORE),
    "grpc, thinking, jitter": ("grpc", 60.0, 0.1, 0.1, AFTER),
    "http, at once": ("http", 60.0, 0.0, 0.005, AFTER),
    "http, thinking, handled before": ("http", 60.0, 0.1, 0.02, BEFORE),
    "http, 240 fps": ("http", 240.0, 0.0, 0.05, AFTER),
}


def game(fps: float, **fields) -> GameConfig:
    return GameConfig(fps=fps).configure(**(DENSE | fields))


@pytest.mark.parametrize(("transport", "fps", "think", "jitter", "order"), CASES.values(), ids=CASES)
def test_a_known_timing_is_recovered(transport, fps, think, jitter, order):
    simulated = simulated_session(
        game(fps), 3, steps=150, transport=transport, think_seconds=think, jitter=jitter, order=order
    )
    timing = measure(simulated.session)
    is_step = simulated.session.arrays["kind"] == STEP
    both = np.flatnonzero(is_step[1:] & is_step[:-1]) + 1
    frames = np.diff(simulated.frame)[both - 1]
    assert timing.frames_per_step is not None
    assert timing.mean_frames_per_step == pytest.approx(frames.mean(), abs=0.1)
    assert set(timing.frames_per_step) <= set(range(int(frames.min()) - 1, int(frames.max()) + 2))
    played = simulated.frame_seconds[simulated.frame[0] :]
    assert timing.frame_seconds == pytest.approx(played.mean(), rel=0.01)
    assert timing.frame_deviation == pytest.approx(played.std() / played.mean(), rel=0.5, abs=0.01)
    # A frame that handles commands before it publishes shows them at once.
    early = order.index("handle_commands") < order.index("publish_state")
    behind = (simulated.frame - simulated.handled_in)[is_step]
    assert timing.shows_action == pytest.approx(np.mean(behind >= (0 if early else 1)), abs=0.03)
    assert timing.response_frame is not None
    moved = np.maximum(behind, 0)
    counts = timing.response_frame
    mean = sum(value * count for value, count in counts.items()) / sum(counts.values())
    assert mean == pytest.approx(moved.mean(), abs=0.15)
    if timing.handle_commands is not None:
        assert timing.handle_commands == ("before" if early else "after")
    assert (timing.handle_commands is None) <= (transport == "http")
    steps = timing.step_timings
    assert steps.frames.mean() == pytest.approx(frames.mean(), abs=0.1)
    lasted = (steps.frames.astype(float) * steps.frame_ns).sum() / steps.frames.sum() / 1e9
    assert lasted == pytest.approx(played.mean(), rel=0.01)
    assert steps.response_frame.mean() == pytest.approx(mean, abs=0.1)
    rows = np.flatnonzero(is_step)
    between = np.flatnonzero(np.diff(rows) > 1)
    last, first = rows[between], rows[between + 1]
    # In the simulator what a frame handles before it publishes belongs to the frame before.
    before = simulated.handled_in[first - 1] - simulated.frame[last] - early
    # HTTP does not tell the order, nor how old a publication is.
    assert np.abs(steps.frames_before_reset - before).mean() <= (0.4 if transport == "grpc" else 1)
    together = steps.frames_before_reset + 1 + steps.frames_after_reset
    assert np.abs(together - np.diff(simulated.frame[rows])[between]).mean() < 0.4
    if think == 0 and transport == "grpc":
        at = {name: order.index(name) for name in ("detect_collisions", "handle_collisions", "publish_state")}
        detect, handle, publish = at.values()
        assert steps.frames_to_done == (handle < detect) + (publish < handle)
    options = timing.options()
    assert options["frames_per_step"] == round(timing.mean_frames_per_step)
    assert options["response_frame"] == round(mean)
    assert options["fps"] == pytest.approx(1 / played.mean(), rel=0.01)


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_the_clock_of_a_server_in_lockstep_tells_no_frames(transport):
    """Whether the client plays at once, or pauses for as long as a step lasts in the game."""
    session = simulated_session(game(60), 3, steps=90, transport=transport, think_seconds=0.1).session
    arrays, is_reset = session.arrays, session.arrays["kind"] == RESET
    assert len(measure(session).step_timings.frames_after_reset) > 2

    def after_reset(sent, received):
        changed = arrays | {"sent_s": sent, "received_s": received}
        return measure(dataclasses.replace(session, arrays=changed)).step_timings.frames_after_reset

    at_once = np.where(is_reset, arrays["sent_s"] + 0.002, arrays["received_s"])
    assert len(after_reset(arrays["sent_s"], at_once)) == 0
    assert len(after_reset(arrays["sent_s"] / 10, arrays["received_s"] / 10)) == 0
    # Resets take as long as in real time, but the connection is so slow.
    assert len(after_reset(arrays["sent_s"] * 10, arrays["received_s"] * 10)) == 0


def test_images_in_lockstep_are_refused():
    fields = {"observation_mode": "topdown", "image_obs_width": 48, "image_obs_height": 48}
    session = simulated_session(game(60, **fields), 3, steps=60).session
    assert len(measure(session).step_timings.frames)
    arrays = session.arrays
    at_once = np.where(arrays["kind"] == RESET, arrays["sent_s"] + 0.002, arrays["received_s"])
    reason = r"cannot be measured: the server is in lockstep \(a reset answered after 2.0 ms\), and its"
    with pytest.raises(RecordingError, match=reason):
        measure(dataclasses.replace(session, arrays=arrays | {"received_s": at_once}))


def test_frames_of_one_length_are_measured_to_the_nanosecond():
    steps = measure(simulated_session(game(50), 3, steps=60, jitter=0.0).session).step_timings
    assert {*steps.frame_ns} == {20_000_000}


def test_turning_round_tells_the_response_frame():
    """The way alone does not tell how long the player went to either side."""
    discrete = game(240, action_space_type="discrete")
    simulated = simulated_session(discrete, 3, steps=150, transport="http", jitter=0.01, order=BEFORE)
    followed = follow_session(simulated.session)
    moved = {each.response: each.with_last for each in followed.moved if each.commands == 2}
    count, velocity = followed.handled.count, followed.handled.velocity
    behind = simulated.frame - simulated.handled_in
    turned = [
        response
        for response in moved
        if count[response] == response + 1 and np.all(velocity[response + 1] == -velocity[response])
    ]
    assert len(turned) > 5
    for response in turned:
        assert moved[response] * 240 == pytest.approx(behind[response], abs=0.2)


def test_an_action_is_not_taken_for_an_equal_one_before():
    """Over gRPC the player never moves by an action before the response."""
    timing = measure(read_session(RECORDINGS / "api_grpc60_discrete.npz"))
    assert timing.response_frame == {0: timing.steps}


def test_what_cannot_be_told_is_said():
    """Nothing flies, so frames cannot be counted; the clock still says how many there were."""
    fields = {"level": 1, "projectile_spawn_interval": 60.0}
    timing = measure(simulated_session(game(60, **fields), 3, steps=60, think_seconds=0.1).session)
    assert timing.frames_per_step is None
    assert timing.frame_seconds is None
    assert any(reason.startswith("frames: ") for reason in timing.unknown)
    assert timing.mean_frames_per_step == pytest.approx(7, abs=0.5)
    assert timing.options()["fps"] == 60


@pytest.mark.parametrize(
    ("counts", "jitter"),
    [
        ({7: 100}, 0),
        ({0: 4, 1: 932, 2: 64}, 0),  # a rare frame more or less is no jitter of one
        ({6: 1, 7: 1, 8: 1}, 1),
        ({6: 15, 7: 70, 8: 15}, 0),
        ({5: 20, 6: 20, 7: 20, 8: 20, 9: 20}, 2),
    ],
)
def test_a_jitter_spreads_like_what_was_measured(counts, jitter):
    timing = measure(simulated_session(game(60), 3, steps=30, think_seconds=0.1).session)
    options = dataclasses.replace(timing, frames_per_step=counts).options()
    assert options["frames_per_step_jitter"] == jitter


def test_a_session_without_two_steps_in_a_row_is_refused():
    session = simulated_session(game(60), 3, steps=30).session
    short = dataclasses.replace(session, arrays={name: array[:2] for name, array in session.arrays.items()})
    with pytest.raises(RecordingError, match="too short to measure"):
        measure(short)


@pytest.mark.slow
def test_a_real_server_is_recorded_checked_and_measured(tmp_path, parity):
    """A process that keeps the wall clock, in the simulator's order,
    played over gRPC with a pause.
    """
    file, options = tmp_path / "session.npz", tmp_path / "timing.json"
    game_options = ("--level", 2, "--spawn-angle-degrees", 20, "--projectile-spawn-interval", 0.1)
    with running(tmp_path, "--grpc-port", 0, "--order", "simulator", "--fps", 60, "--seed", 3) as server:
        url = server.addresses("grpc")[0]
        status, _, errors = parity(
            "record", "--server", url, "--out", file, "--steps", 120, "--think-seconds", 0.05, *game_options
        )
    assert (status, errors) == (0, [])
    status, out, errors = parity("check", file)
    assert (status, errors) == (0, []), out
    assert "1 of 1 sessions agree" in out[-1]
    status, out, errors = parity("timing", file, "--out", options)
    assert (status, errors) == (0, [])
    timing = measure(read_session(file))
    # A busy machine makes frames late.
    assert timing.frame_seconds == pytest.approx(1 / 60, rel=0.25)
    assert timing.mean_frames_per_step == pytest.approx(
        1 / (timing.frame_seconds * timing.steps_per_second), rel=0.05
    )
    assert timing.handle_commands == "after"
    assert timing.shows_action < 0.1
    written = read_options(options)
    assert written == timing.options()
    steps = read_steps(options)
    assert steps.median()["frames_per_step"] == written["frames_per_step"]
    # A reset takes 20 ms over gRPC, and the next response is another frame's.
    assert np.median(steps.frames_before_reset + steps.frames_after_reset) >= 1
    assert written["response_frame"] == 0
    assert written["frames_per_step"] == round(timing.mean_frames_per_step)
    assert "--response-frame 0" in out[-1]


def test_bad_usage(parity, tmp_path):
    for arguments in ((), (tmp_path / "a.npz", "--server", "http://127.0.0.1:1")):
        status, out, errors = parity("timing", *arguments)
        assert (status, out) == (2, [])
        assert errors == ["timing: expected either a session's file or --server"]
    missing = tmp_path / "missing.npz"
    assert parity("timing", missing) == (2, [], [f"{missing}: no such file"])
