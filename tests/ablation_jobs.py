"""A replacement for `compute` that fails in the way its cell is named after."""

import os
import signal
import time
from pathlib import Path

from jaxdodge.ablation.tasks import Task
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError

GAME = GameConfig(level=2, action_space_type="basic_3d")


def tasks(folder: Path, *names: str) -> list[Task]:
    """Tasks of cells with these names, see `by_name`."""
    return [
        Task(name, f"key{i}", GAME, TrainConfig(), None, {"c": GAME}, 2, folder)
        for i, name in enumerate(names)
    ]


def result(task, returns: float = 1.0) -> dict:
    """A result as `compute` yields it, with the same return for every seed."""
    seeds = range(task.train.seed, task.train.seed + task.train.seeds)
    figures = {"mean": returns, "survival": 0.5}
    return {
        "key": task.key,
        "seeds": [*seeds],
        "configuration": {},
        "evaluations": {key: [figures for _ in seeds] for key in task.conditions},
        "curves": [[{"timesteps": 10, "seconds": 1.0, "return": returns, "survival": 0.5}] for _ in seeds],
        "sample_frame": None,
        "cost": {"evaluation_seconds": 1.0, "memory_bytes": 10},
        "hardware": {},
    }


def by_name(task, tell, interrupted):
    """Does what the cell's name says, and appends its process id to a file of that name."""
    file = task.folder / task.cell
    first = not file.exists()
    with file.open("a") as lines:
        lines.write(f"{os.getpid()}\n")
    if "refused" in task.cell:
        raise ConfigError("gamma: invalid value 7")
    if "killed" in task.cell and ("once" not in task.cell or first):
        os.kill(os.getpid(), signal.SIGKILL)
    if "broken" in task.cell:
        raise RuntimeError("RESOURCE_EXHAUSTED: 5 GB" if "memory" in task.cell else "no\nluck")
    if "diverged" in task.cell:
        from jaxdodge.runs.loop import DivergedError

        raise DivergedError("value is not finite")
    tell({"done": 0.5})
    while "waits" in task.cell and ("once" not in task.cell or first):
        time.sleep(0.01)
        if interrupted():
            return
    yield task.name, result(task)
