"""Killed or stopped at any moment and resumed, a run ends with the bits of an uninterrupted one.

Every run is a process of its own, because only a process can be killed.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_runs import TINY

from jaxdodge.runs.checkpoints import Checkpoints

IMAGES = {
    "observation_mode": "topdown",
    "image_obs_width": 32,
    "image_obs_height": 32,
    "image_grayscale": True,
    "buffer_size": 1280,
    "max_episode_steps": 20,
    "n_eval_episodes": 4,
    "total_timesteps": 3072,
}
CASES = {
    "vectors": {},
    "images": IMAGES | {"critic_observation": "state"},
    "seeds": {"seeds": 2},
}
# The command in a process that sends itself a signal at one of the moments at which a run can have
# changed something on disk. At its end it prints how many such moments there are.
CHILD = """
import functools, os, re, resource, sys
from jaxdodge import train
from jaxdodge.runs import logs
from jaxdodge.runs import loop as training
from jaxdodge.cli import guarded

training.EPOCH_TIMESTEPS = 512
number, last, largest_file = map(int, sys.argv[1:4])
if largest_file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
places = re.compile(
    r"/jaxdodge/(runs/(loop|folder|logs|checkpoints)|files)[.]py|/orbax/|/(shutil|pathlib|json/.*)[.]py"
)
matches = functools.cache(places.search)
moments = 0

def count(frame, event, _):
    global moments
    if event in ("call", "c_call") and matches(frame.f_code.co_filename):
        moments += 1
        if moments == last:
            sys.setprofile(None)
            os.kill(os.getpid(), number)

def unwatched(function):
    def call(*arguments):
        sys.setprofile(None)
        try:
            return function(*arguments)
        finally:
            if moments < last:
                sys.setprofile(count)
    return call

learn = training.Training.learn

def watched(*arguments):
    sys.setprofile(count)
    try:
        return learn(*arguments)
    finally:
        sys.setprofile(None)
        print("moments:", moments)

logs.plot, training.plot = unwatched(logs.plot), unwatched(training.plot)
training.evaluate = unwatched(training.evaluate)
training.Training.learn = watched
sys.exit(guarded(train.train, sys.argv[4:]))
"""
NEVER = 2**31


def without_alarms(errors: str) -> str:
    """Standard error without what XLA says of compiling on a slow machine, framed in stars."""
    alarm = re.compile("slow_operation_alarm|Very slow compile|^[*]*$")
    return "".join(line for line in errors.splitlines(keepends=True) if not alarm.search(line))


class Command:
    """The command in a folder; one configuration for each of CASES, in a file of its name."""

    def __init__(self, folder: Path, cache: Path):
        self.folder = folder
        # Compilation takes most of the time of such a run; a cached program has the same bits.
        environment = {
            "JAX_COMPILATION_CACHE_DIR": f"{cache}",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self.environment = os.environ | environment

    def __call__(
        self,
        *arguments: object,
        send: int = 0,
        at: int = NEVER,
        largest_file: int = 0,
        folder: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it.

        Args:
            arguments: of the command.
            send: the signal that it sends itself.
            at: the number of the moment at which it does.
            largest_file: limit on the bytes of a file; 0 for none.
            folder: where it runs.
        """
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *map(str, (int(send), at, largest_file, *arguments))],
            cwd=folder or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        done.stderr = without_alarms(done.stderr)
        return done

    def begin(self, case: str, **options: Any) -> tuple[Path, subprocess.CompletedProcess[str]]:
        """Start a new run; its folder, and what came of the process."""
        file = self.folder / f"{case}.yaml"
        file.write_text(yaml.safe_dump(TINY | CASES[case]))
        results = self.folder / f"results{len(list(self.folder.glob('results*')))}"
        done = self("--config", file, "--results", results, **options)
        assert (results / case).is_dir(), done.stderr
        (run,) = (results / case).iterdir()
        return run, done


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Command:
    return Command(tmp_path_factory.mktemp("resume"), tmp_path_factory.getbasetemp() / "compiled")


@pytest.fixture(scope="module")
def whole(command):
    """For a case, an uninterrupted run and its number of moments; trained once."""
    runs: dict[str, tuple[Path, int]] = {}

    def run(case: str) -> tuple[Path, int]:
        if case not in runs:
            folder, done = command.begin(case)
            assert done.returncode == 0, done.stderr
            runs[case] = folder, int(done.stdout.rpartition("moments: ")[2])
        return runs[case]

    return run


def outcome(run: Path) -> dict:
    """All of a run that must not depend on interruptions; checkpoints without their times."""
    found: dict = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.name in ("best", "final"):
            found[name] = path.read_bytes()
        elif path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [
                {key: value for key, value in line.items() if not key.endswith(("per_second", "seconds"))}
                for line in lines
            ]
        elif path.name == "record.json":
            content = json.loads(path.read_text())
            content["record"].pop("seconds")
            found[name] = content
        elif path.name == "summary.json":
            found[name] = json.loads(path.read_text()) | {"wall_seconds": None}
    for step in Checkpoints(run / "models" / "checkpoints").steps():
        found[f"arrays {step}"] = arrays(run, step)
    return found


def arrays(run: Path, step: int) -> list[tuple[str, bytes]]:
    """The bits of a checkpoint, without knowing what they mean."""
    import orbax.checkpoint as ocp

    folder = run.absolute() / "models" / "checkpoints" / f"{step:012d}" / "arrays"
    tree = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(folder)
    return sorted((name, np.asarray(array).tobytes()) for name, array in tree.items())


def same_results(run: Path, expected: Path) -> bool:
    """Whether two runs have the same outcome, whichever checkpoints they keep."""
    results = [
        {name: value for name, value in outcome(each).items() if not re.search("checkpoints|arrays", name)}
        for each in (run, expected)
    ]
    return results[0] == results[1]


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


def test_stopped_and_killed_it_ends_with_the_same_bits(command, whole):
    expected, moments = whole("vectors")
    run, done = command.begin("vectors", send=signal.SIGTERM, at=moments // 6)
    check_stopped(run, done, "SIGTERM", 143)
    steps = Checkpoints(run / "models" / "checkpoints").steps()
    done = command("--resume", run, send=signal.SIGKILL, at=moments // 3)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert f"\nresumed at {steps[-1]:,} steps\n" in done.stdout
    done = command("--resume", run)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"run: {run}\nresumed at ")
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
    assert done.stdout.startswith(f"run: {run}\nresumed at ")
    assert outcome(run) == outcome(expected)


@pytest.mark.slow
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


def check_stopped(run: Path, done: subprocess.CompletedProcess[str], reason: str, status: int) -> float:
    """Check that a run was stopped in an orderly way; returns its seconds."""
    assert done.returncode == status
    assert done.stderr == f"{reason}: saving and stopping\n"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped"] == reason
    assert 0 < summary["timesteps"] < 4096
    assert Checkpoints(run / "models" / "checkpoints").steps()[-1] == summary["timesteps"]
    assert (run / "models" / "final").is_file()
    return summary["wall_seconds"]


@pytest.fixture
def unfinished(whole, tmp_path) -> Path:
    """A copy of a run, as if it had been killed before its last lines."""
    run: Path = shutil.copytree(whole("vectors")[0], tmp_path / "vectors" / "20010101_000000")
    (run / "summary.json").unlink()
    return run


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
    assert done.stdout.startswith(f"run: {unfinished}\nresumed at 3,072 steps\n")
    assert Checkpoints(checkpoints).steps() == steps
    assert outcome(unfinished) == outcome(whole("vectors")[0])
    assert outcome(newer) == before


def test_a_checkpoint_branches_off_into_a_run_of_its_own(command, whole, tmp_path):
    expected, _ = whole("vectors")
    before = {path: path.stat().st_mtime_ns for path in expected.rglob("*")}
    place = "checkpoints/000000003072"
    done = command("--resume", place, "--results", tmp_path, folder=expected / "models")
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = (tmp_path / "vectors").iterdir()
    assert done.stdout.startswith(f"run: {run}\nresumed at 3,072 steps\n")
    assert Checkpoints(run / "models" / "checkpoints").steps() == [4096]
    branched, whole_outcome = outcome(run), outcome(expected)
    assert branched == {name: whole_outcome[name] for name in branched}
    assert {path: path.stat().st_mtime_ns for path in expected.rglob("*")} == before


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


def test_a_finished_run_says_so_and_nothing_else_happens(command, whole):
    expected, _ = whole("vectors")
    before = {path: path.stat().st_mtime_ns for path in expected.rglob("*")}
    done = command("--resume", expected)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}: finished already\n", "")
    assert {path: path.stat().st_mtime_ns for path in expected.rglob("*")} == before
