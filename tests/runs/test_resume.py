"""Killed or stopped at any moment and resumed, a run ends with the bits of an uninterrupted one.

Every run is a process of its own, because only a process can be killed.
"""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
from stopped_runs import Command, arrays, check_stopped, outcome, same_results, without_alarms
from tiny_runs import lines

from jaxdodge.runs.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Command:
    return Command(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def whole(command):
    """For a case, an uninterrupted run and its number of moments; trained once."""
    runs: dict[str, tuple[Path, int]] = {}

    def run(case: str) -> tuple[Path, int]:
        if case not in runs:
            folder, done = command.begin(case)
            assert done.returncode == 0, done.stderr
            runs[case] = folder, int(done.stdout.rpartition("moments: ")[2].split()[0])
        return runs[case]

    return run


def test_that_compiling_was_slow_is_not_an_error_of_the_command():
    alarm = (
        "2026-01-01 00:00:00.0: E external/xla/xla/service/slow_operation_alarm.cc:73] \n"
        "********************************\n"
        "[Compiling module jit__epoch] Very slow compile? If you want to file a bug, run with envvar X\n"
        "********************************\n"
        "2026-01-01 00:02:31.0: E external/xla/xla/service/slow_operation_alarm.cc:140] It took 2m31s\n"
        "\n"
    )
    assert without_alarms(alarm) == ""
    assert without_alarms(f"a line\n{alarm}another\n") == "a line\nanother\n"


@pytest.mark.slow
def test_stopped_and_killed_it_ends_with_the_same_bits(command, whole):
    expected, moments = whole("vectors")
    run, done = command.begin("vectors", send=signal.SIGHUP, at=moments // 6)
    check_stopped(run, done, "SIGHUP", 129)
    steps = Checkpoints(run / "models" / "checkpoints").steps()
    done = command("--resume", run, send=signal.SIGKILL, at=moments // 3)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert f"\nresumed at {steps[-1]:,} steps\n" in done.stdout
    done = command("--resume", run)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\nrun: {run}\nresumed at " in done.stdout
    # It has saved more often, so other checkpoints may be kept; but the last one is the same.
    assert same_results(run, expected)
    assert arrays(run, 4096) == arrays(expected, 4096)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "kills"),
    # Parts of a whole run: before the first checkpoint, after it, and not after the end.
    [
        ("vectors", [(0.02, 0.1), (0.4, 0.75), (0.0, 0.12)]),
        ("images", [(0.4, 0.75)]),
        ("seeds", [(0.4, 0.75)]),
    ],
)
def test_killed_at_random_moments_it_ends_with_the_same_bits(command, whole, case, kills):
    expected, moments = whole(case)
    draw = random.Random(case)
    run, saved = None, []
    for kill in kills:
        at = int(draw.uniform(*kill) * moments) + 1
        if run is None:
            run, done = command.begin(case, send=signal.SIGKILL, at=at)
            assert (Checkpoints(run / "models" / "checkpoints").steps() == []) == (kill[1] < 0.25)
        else:
            done = command("--resume", run, send=signal.SIGKILL, at=at)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert ("\nresumed at " in done.stdout) == bool(saved)
        saved = Checkpoints(run / "models" / "checkpoints").steps()
    done = command("--resume", run)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\nrun: {run}\nresumed at " in done.stdout
    assert outcome(run) == outcome(expected)


@pytest.mark.slow
@pytest.mark.nightly
def test_sigterm_and_ctrl_c_save_and_it_ends_with_the_same_bits(command, whole):
    expected, moments = whole("vectors")
    run, done = command.begin("vectors", send=signal.SIGTERM, at=moments // 6)
    seconds = check_stopped(run, done, "SIGTERM", 143)
    done = command("--resume", run, send=signal.SIGINT, at=moments // 8)
    assert check_stopped(run, done, "Ctrl-C", 130) > seconds
    done = command("--resume", run)
    assert (done.returncode, done.stderr) == (0, "")
    # It has saved more often, so other checkpoints may be kept; but the last one is the same.
    assert same_results(run, expected)
    assert arrays(run, 4096) == arrays(expected, 4096)


@pytest.fixture
def unfinished(whole, tmp_path) -> Path:
    """A copy of a run, as if it had been killed before its last lines."""
    run: Path = shutil.copytree(whole("vectors")[0], tmp_path / "vectors" / "20010101_000000")
    (run / "summary.json").unlink()
    return run


@pytest.mark.slow
def test_auto_takes_the_unfinished_run_and_a_damaged_checkpoint_is_passed_over(command, whole, unfinished):
    newer = shutil.copytree(whole("vectors")[0], unfinished.with_name("20020202_000000"))
    checkpoints = unfinished / "models" / "checkpoints"
    last = checkpoints / "000000004096"
    file = max(last.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    before = outcome(newer)
    steps = Checkpoints(checkpoints).steps()
    place = command.folder / "vectors.yaml", "--results", unfinished.parents[1]
    done = command("--config", *place, "--resume", "auto")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{last}: damaged (")
    assert f"\nrun: {unfinished}\nresumed at 3,072 steps\n" in done.stdout
    assert Checkpoints(checkpoints).steps() == steps
    assert outcome(unfinished) == outcome(whole("vectors")[0])
    assert outcome(newer) == before


@pytest.mark.slow
def test_a_checkpoint_branches_off_into_a_run_of_its_own(command, whole, tmp_path):
    expected, _ = whole("vectors")
    before = {path: path.stat().st_mtime_ns for path in expected.rglob("*")}
    place = "checkpoints/000000003072"
    done = command("--resume", place, "--results", tmp_path, folder=expected / "models")
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = (tmp_path / "vectors").iterdir()
    assert f"\nrun: {run}\nresumed at 3,072 steps\n" in done.stdout
    assert Checkpoints(run / "models" / "checkpoints").steps() == [4096]
    branched, whole_outcome = outcome(run), outcome(expected)
    assert branched == {name: whole_outcome[name] for name in branched}
    assert {path: path.stat().st_mtime_ns for path in expected.rglob("*")} == before


@pytest.mark.nightly
@pytest.mark.slow
def test_a_finished_run_is_trained_longer_or_with_other_options(command, whole, tmp_path):
    expected, _ = whole("vectors")
    before = {path: path.stat().st_mtime_ns for path in expected.rglob("*")}
    done = command("--from", expected, "--results", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "total_timesteps: invalid value 4096; expected more than the 4096 steps" in done.stderr

    done = command("--from", expected, "--results", tmp_path / "longer", "--total-timesteps", 4608)
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = (tmp_path / "longer" / "vectors").iterdir()
    assert f"\nfrom: {expected} at 4,096 steps (its whole state)\n" in done.stdout
    logged = [line["timesteps"] for line in lines(run)]
    assert logged == [line["timesteps"] for line in lines(expected)] + [4608]
    assert json.loads((run / "parent.json").read_text()) == {
        "run": f"{expected}",
        "timesteps": 4096,
        "whole": True,
    }

    # Killed before its first checkpoint, it starts with the same networks again.
    options = ("--spawn-angle-degrees", 60, "--total-timesteps", 512)
    done = command("--from", expected, "--results", tmp_path / "other", *options)
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = (tmp_path / "other" / "vectors").iterdir()
    assert f"\nfrom: {expected} at 4,096 steps (its networks; counts start at 0" in done.stdout
    first = lines(run)
    assert [line["timesteps"] for line in first] == [0, 512]
    shutil.rmtree(run / "models")
    (run / "summary.json").unlink()
    (run / "models").mkdir()
    done = command("--resume", run)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line["evaluation/mean"] for line in lines(run)] == [line["evaluation/mean"] for line in first]
    assert {path: path.stat().st_mtime_ns for path in expected.rglob("*")} == before

    done = command("--from", expected, "--results", tmp_path / "no", "--net-arch", 16)
    assert done.returncode == 2
    assert done.stderr.startswith("net_arch: invalid value [16]; expected ")
    assert "compiling" not in done.stdout
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_run(command, whole):
    # All other files of the run are smaller. Threads of Orbax outlive its error: what they print
    # can come after the run's line, or before it without a newline.
    run, done = command.begin("vectors", largest_file=100_000)
    assert done.returncode == 1, done.stderr
    folder = run / "models" / "checkpoints"
    # The first one can be small: its replay is not full yet.
    saved = Checkpoints(folder).steps()
    failed = [step for step in (1024, 2048, 3072, 4096) if step not in saved]
    assert 4096 in failed
    place = folder / f"{saved[-1]:012d}" if saved else "none was saved"
    assert done.stderr.count(f"not saved; last checkpoint: {place}\n") == 1
    lines = [line for line in done.stdout.splitlines() if ": not saved (" in line]
    assert [line.endswith("; training goes on") for line in lines] == [step < 4096 for step in failed]
    assert [line.partition(" (")[0] for line in lines] == [
        f"{folder}/{step:012d}: not saved" for step in failed
    ]
    assert {path.name for path in folder.iterdir()} == {f"{step:012d}" for step in saved}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped"] == "not saved"
    (run / "summary.json").write_text(json.dumps(summary | {"stopped": None}))
    assert same_results(run, whole("vectors")[0])


@pytest.mark.slow
def test_a_finished_run_says_so_and_nothing_else_happens(command, whole):
    expected, _ = whole("vectors")
    before = {path: path.stat().st_mtime_ns for path in expected.rglob("*")}
    done = command("--resume", expected)
    longer = f"jaxdodge train --from {expected} --total-timesteps 8192"
    line = f"{expected}: finished already; train longer: {longer}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, line, "")
    assert {path: path.stat().st_mtime_ns for path in expected.rglob("*")} == before
