"""`evaluate --server`: on a real server from end to end, the measured timing,
what is said, every refusal.
"""

import dataclasses
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from served import running

from jaxdodge import evaluate
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.bevy.play import trained_pause
from jaxdodge.cli import Interrupt, guarded
from jaxdodge.config import GameConfig
from jaxdodge.parity.timing import measure
from jaxdodge.recordings.session import STEP, read_session
from jaxdodge.runs.folder import Run

RECORDINGS = Path(__file__).parents[2] / "parity" / "recordings"
# Throws that soon end every episode.
GAME = GameConfig(
    level=2,
    action_space_type="basic_3d",
    spawn_angle_degrees=1,
    projectile_spawn_interval=0.1,
    frames_per_step=3,
    response_frame=0,
)
TRAIN = TrainConfig(net_arch=(8,))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run whose policy was never trained, and hardly moves."""
    made = Run.create(tmp_path_factory.mktemp("results"), "run", GAME, TRAIN)
    shapes = make_trainer(GAME, TRAIN).policy_shapes()
    made.save_policy("best", jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
    return made.folder


@pytest.fixture
def command(capsys):
    """The command in this process, which keeps its signals: status, lines, lines of errors."""
    handlers = {number: signal.getsignal(number) for number in Interrupt.SIGNALS}

    def run_command(*arguments) -> tuple[int, list[str], list[str]]:
        try:
            status = guarded(evaluate.evaluate, [str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    yield run_command
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.slow
def test_a_run_plays_on_a_server_beside_the_simulator(run, command, tmp_path):
    out = tmp_path / "session.npz"
    with running(tmp_path, "--grpc-port", 0, "--seed", 1) as server:
        url = server.addresses("grpc")[0]
        arguments = [run, "--server", url, "--episodes", "3", "--record", out]
        status, lines, errors = command(*arguments)
        assert (status, errors) == (0, [])
        server.process.kill()
        server.process.wait()
        assert command(run, "--server", url)[0] == 1
    session = read_session(out)
    arrays = session.arrays
    ends = np.flatnonzero(arrays["done"] & (arrays["kind"] == STEP))
    assert len(ends) == 3
    assert session.config.spawn_angle_degrees == GAME.spawn_angle_degrees
    assert lines[0] == f"{run}: best policy, 3 episodes on {url}, deterministic"
    # A line when an episode ends, also where the output is no terminal.
    played, lines[1:4] = lines[1:4], []
    assert [line.split(":")[0] for line in played] == [f"episode {number} of 3" for number in (1, 2, 3)]
    assert lines[1].startswith(f"{out}: ")
    assert lines[2].split()[:3] == ["return", "±", "std"]
    # What is printed of the server is what its session holds.
    rewards = np.where(arrays["kind"] == STEP, arrays["reward"], 0)
    returns = [part.sum() for part in np.split(rewards, ends + 1)[:-1]]
    assert lines[3].startswith(f"     server, 3 episodes  {np.mean(returns):6.1f} ± {np.std(returns):5.1f}  ")
    assert lines[4].startswith("simulator, 512 episodes  ")
    assert lines[5].startswith("the simulator ran at the measured timing: frames_per_step ")
    assert [line.split(":")[0] for line in lines[6:]] == ["return", "survival"]


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "response", "episodes"), [(7, 0, 100), (1, 1, 20)])
def test_a_server_in_lockstep_is_predicted(frames, response, episodes, command, tmp_path):
    out = tmp_path / "session.npz"
    timing = ("--frames-per-step", frames, "--response-frame", response)
    with running(tmp_path, "--http", "--port", 0, "--mode", "lockstep", "--seed", 3, *timing) as server:
        arguments = ("--server", server.http, "--episodes", episodes, "--think-seconds", 0, "--record", out)
        status, lines, errors = command(
            "strafe", *arguments, "--level", 2, "--spawn-angle-degrees", 30, "--action-space-type", "basic_3d"
        )
    assert (status, errors) == (0, [])
    assert [line for line in lines if "DIFFERENT" in line] == []
    steps = measure(read_session(out)).step_timings
    assert {*steps.frames} == {frames}
    assert {*steps.response_frame} == {response}
    assert {*steps.frame_ns} == {GAME.frame_nanoseconds}
    assert steps.frames_after_reset.size == 0


@pytest.mark.parametrize(
    ("name", "frames_per_step", "response_frame"),
    [
        ("api_grpc60_slow", 7, 0),
        ("api_grpc60_image84", 1, 0),
        ("api_http60_fast", 1, 0),
        ("api_http240_fast", 5, 3),
    ],
)
def test_the_timing_of_the_real_servers_sessions(name, frames_per_step, response_frame):
    session = read_session(RECORDINGS / f"{name}.npz")
    steps = measure(session).step_timings
    measured = steps.median()
    assert (measured["frames_per_step"], measured["response_frame"]) == (frames_per_step, response_frame)
    sent, step = session.arrays["sent_s"], session.arrays["kind"] == STEP
    period = np.diff(sent)[step[1:] & step[:-1]].mean()
    assert (steps.frames * (steps.frame_ns / 1e9)).mean() == pytest.approx(period, rel=0.1)


@pytest.mark.parametrize(
    ("url", "frames", "seconds"),
    [("grpc://a:1", 7, 6.5 / 60), ("unix:///a", 1, 0.5 / 60), ("http://a:1", 7, 7 / 60 - 0.016)],
)
def test_the_pause_at_which_a_run_was_trained(url, frames, seconds):
    game = dataclasses.replace(GAME, frames_per_step=frames, response_frame=0)
    assert trained_pause(game, url) == pytest.approx(seconds)
    assert trained_pause(dataclasses.replace(game, fps=1000), "http://a:1") >= 0


REFUSED = {
    "url": (("--server", "localhost"), "server: invalid value 'localhost'; expected http://HOST:PORT"),
    "grid": (("--grid", "fps=1,2"), "grid: invalid together with --server"),
    "robustness": (("--robustness",), "robustness: invalid together with --server"),
    "sampled": (("--sampled",), "sampled: invalid together with --server"),
    "csv": (("--csv", "x.csv"), "csv: invalid together with --server"),
    "timing": (("--frames-per-step", "1"), "frames_per_step: invalid together with --server"),
    "shape": (
        ("--observation-mode", "topdown"),
        "observation_mode: invalid value 'topdown'; expected 'standard'",
    ),
    "policy": (("--policy", "final"), "no such file"),
    "record": (("--record", "/nowhere/x.npz"), "/nowhere/x.npz: cannot be written"),
    "pause": (("--think-seconds", "-1"), "think_seconds: invalid value -1.0"),
}


@pytest.mark.parametrize(("options", "reason"), REFUSED.values(), ids=REFUSED)
def test_refusals_are_one_line(options, reason, run, command):
    status, lines, errors = command(run, "--server", "grpc://127.0.0.1:1", *options)
    assert status == 2
    assert [line for line in lines if "best policy" not in line] == []
    assert len(errors) == 1
    assert reason in errors[0]


def test_strafe_needs_to_know_where_the_player_is(command):
    for options in ((), ("--server", "grpc://127.0.0.1:1")):
        status, lines, errors = command("strafe", "--observation-mode", "topdown", *options)
        assert (status, lines, len(errors)) == (2, [], 1)
        assert errors[0].startswith("observation_mode: invalid value 'topdown' for strafe, ")


def test_options_of_a_server_need_one(run, command):
    status, _, errors = command(run, "--record", "x.npz")
    assert (status, len(errors)) == (2, 1)
    assert "record: expected with --server" in errors[0]


def test_one_of_several_seeds_plays(run, command, tmp_path):
    parent = Run.create(tmp_path, "run", GAME, dataclasses.replace(TRAIN, seeds=2)).folder
    status, _, errors = command(parent, "--server", "grpc://127.0.0.1:1")
    reason = f"{parent}: several seeds; expected one of them, such as {parent}/seed_0"
    assert (status, errors) == (2, [reason])
