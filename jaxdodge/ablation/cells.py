"""What cells have come to, on disk: a file each, whole or not there, named by configuration and code.

Nothing here imports JAX.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import TRACED_FIELDS, GameConfig
from jaxdodge.files import atomic_write

# Sources, relative to the package, and packages whose versions decide what a training comes to.
SOURCES = ("config.py", "fields.py", "sim", "render", "agents", "ablation/compute.py")
NOT_DECIDING = {"checkpoints.py", "logs.py", "memory.py", "options.py", "progress.py", "runs.py", "tables.py"}
PACKAGES = ("jax", "jaxlib", "flax", "optax")


@dataclasses.dataclass(frozen=True)
class Task:
    """Some seeds of a cell, trained in one program where they fit."""

    cell: str
    """Name of the cell."""
    key: str
    game: GameConfig
    train: TrainConfig
    """With `seed`, the first one, and `seeds`."""
    minutes: float | None
    """Of training, at most."""
    conditions: dict[str, GameConfig]
    """By key, the games of the evaluations that are missing."""
    episodes: int
    """Of each evaluation."""
    folder: Path
    """Where the runs of all cells are."""

    @property
    def name(self) -> str:
        """Name of the run's folder and of the file of results."""
        return f"{self.key}.{self.train.seed}-{self.train.seed + self.train.seeds - 1}"

    def of_seeds(self, first: int, count: int) -> "Task":
        """The same for other seeds."""
        return dataclasses.replace(self, train=dataclasses.replace(self.train, seed=first, seeds=count))

    def in_parts(self, count: int) -> list["Task"]:
        """So many tasks with its seeds, in their order: larger ones first, by one seed at most."""
        size, larger = divmod(self.train.seeds, count)
        ends = [self.train.seed + index * size + min(index, larger) for index in range(count + 1)]
        return [self.of_seeds(first, end - first) for first, end in itertools.pairwise(ends)]


def digest(value: Any) -> str:
    """A key of anything that JSON can hold; the order of names has no influence."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """Key of the sources and packages that results depend on."""
    package = Path(__file__).parents[1]
    files = sorted(
        file
        for source in SOURCES
        for file in ([package / source] if source.endswith(".py") else (package / source).rglob("*.py"))
    )
    files = [file for file in files if file.name not in NOT_DECIDING]
    texts = {file.relative_to(package).as_posix(): file.read_text(encoding="utf-8") for file in files}
    return digest([texts, {name: metadata.version(name) for name in PACKAGES}])


def configuration(game: GameConfig, train: TrainConfig) -> dict[str, Any]:
    """All fields by name, as JSON has them, without the seeds."""
    fields = dataclasses.asdict(game) | dataclasses.asdict(train)
    fields["net_arch"] = list(train.net_arch)
    return {name: value for name, value in fields.items() if name not in ("seed", "seeds")}


def training_key(game: GameConfig, train: TrainConfig, minutes: float | None) -> str:
    """Key of a cell: of everything that its training depends on, but the seeds."""
    return digest([configuration(game, train), minutes, code_version()])


def program_of(task: Task) -> str:
    """Equal for tasks that may share a compilation."""
    fields = dataclasses.asdict(task.game) | dataclasses.asdict(task.train)
    return str({name: value for name, value in fields.items() if name not in (*TRACED_FIELDS, "seed")})


def condition_key(game: GameConfig, episodes: int) -> str:
    """Key of an evaluation of a cell."""
    return digest([dataclasses.asdict(game), episodes])


class Store:
    """The results of cells in one folder.

    Args:
        folder: made by the first result.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, name: str, result: dict[str, Any]) -> None:
        """Write a result; one of the same name gets the evaluations of both, and what both took.

        Raises:
            OSError: it could not be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.json"
        before = _read(path)
        if before and "error" not in before:
            seconds = (one["cost"]["evaluation_seconds"] for one in (before, result))
            memory = (one["cost"]["memory_bytes"] for one in (before, result))
            result = result | {
                "evaluations": before["evaluations"] | result["evaluations"],
                "cost": result["cost"] | {"evaluation_seconds": sum(seconds), "memory_bytes": max(memory)},
            }
        atomic_write(path, json.dumps(result, indent=1) + "\n")

    def results(self, key: str) -> list[dict[str, Any]]:
        """All of a cell, in the order of their seeds; a file that is damaged counts as not there."""
        found = [_read(path) for path in self.folder.glob(f"{key}.*.json")]
        return sorted((one for one in found if one and one["key"] == key), key=lambda one: one["seeds"])

    def missing(self, task: Task) -> list[Task]:
        """What is left to do of a task: seeds to train, or evaluations of seeds that are trained."""
        wanted = set(range(task.train.seed, task.train.seed + task.train.seeds))
        tasks = []
        for result in self.results(task.key):
            seeds = result["seeds"]
            if wanted.isdisjoint(seeds):
                continue
            wanted -= set(seeds)
            left = {
                key: game for key, game in task.conditions.items() if key not in result.get("evaluations", {})
            }
            if left and "error" not in result:
                again = task.of_seeds(seeds[0], len(seeds))
                tasks.append(dataclasses.replace(again, conditions=left))
        return tasks + [task.of_seeds(first, count) for first, count in _ranges(wanted)]


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First one and count of each unbroken range of numbers."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == sum(ranges[-1]):
            ranges[-1] = ranges[-1][0], ranges[-1][1] + 1
        else:
            ranges.append((number, 1))
    return ranges


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"key", "seeds"} <= content.keys() else None


def finite(value: Any) -> Any:
    """As JSON has it everywhere: what is not finite becomes null."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
