"""Runs in processes of their own that send themselves a signal, and how their outcomes compare."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
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
from jaxdodge.runs import epochs
from jaxdodge.runs import loop as training
from jaxdodge.cli import guarded

epochs.EPOCH_TIMESTEPS = 512
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

def watched(*arguments, **options):
    sys.setprofile(count)
    try:
        return learn(*arguments, **options)
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

    def __init__(self, folder: Path):
        self.folder = folder

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


def check_stopped(run: Path, done: subprocess.CompletedProcess[str], reason: str, status: int) -> float:
    """Check that a run was stopped in an orderly way; returns its seconds."""
    assert done.returncode == status
    assert done.stderr == f"{reason}: stopping after this epoch; again to stop now\n"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped"] == reason
    assert 0 < summary["timesteps"] < 4096
    assert Checkpoints(run / "models" / "checkpoints").steps()[-1] == summary["timesteps"]
    assert (run / "models" / "final").is_file()
    return summary["wall_seconds"]
