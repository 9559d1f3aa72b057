"""Tasks: some seeds of a cell, and the keys that name their results. Does not import JAX."""

import dataclasses
import functools
import hashlib
import itertools
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import TRACED_FIELDS, GameConfig

# Sources (files or folders of the package) and packages that can change the result of a training.
SOURCES = (
    *("config.py", "fields.py", "exact.py", "sim", "render", "agents", "evaluation", "runs"),
    *("ablation/compute.py", "ablation/cell_evaluation.py"),
)
# Files in them that cannot.
IRRELEVANT = {
    *("checkpoints.py", "logs.py", "memory.py", "options.py", "progress.py", "folder.py", "tables.py"),
    "parent.py",
}
PACKAGES = ("jax", "jaxlib", "flax", "optax")


@dataclasses.dataclass(frozen=True)
class Task:
    """Some seeds of a cell, trained in one program if they fit into memory."""

    cell: str
    """Name of the cell."""
    key: str
    """Of the cell, see `training_key`."""
    game: GameConfig
    train: TrainConfig
    """With the first seed in `seed` and their number in `seeds`."""
    minutes: float | None
    """Training budget, if it is given in minutes."""
    conditions: dict[str, GameConfig]
    """The missing evaluations: their games by key, see `condition_key`."""
    episodes: int
    """Episodes of each evaluation."""
    folder: Path
    """With the training runs of all cells."""

    @property
    def name(self) -> str:
        """Name of the run folder and of the result file."""
        return f"{self.key}.{self.train.seed}-{self.train.seed + self.train.seeds - 1}"

    @property
    def seeds(self) -> range:
        """All of its seeds."""
        return range(self.train.seed, self.train.seed + self.train.seeds)

    def with_seeds(self, first: int, count: int) -> "Task":
        """The same task for other seeds."""
        return dataclasses.replace(self, train=dataclasses.replace(self.train, seed=first, seeds=count))

    def split(self, count: int) -> list["Task"]:
        """So many tasks with its seeds in order; the first ones may have one seed more."""
        size, larger = divmod(self.train.seeds, count)
        starts = [self.train.seed + index * size + min(index, larger) for index in range(count + 1)]
        return [self.with_seeds(first, end - first) for first, end in itertools.pairwise(starts)]


def digest(value: Any) -> str:
    """A hash of a JSON value; the order of names does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """A hash of the sources and package versions that results depend on."""
    package = Path(__file__).parents[1]
    files = [
        file
        for source in SOURCES
        for file in ([package / source] if source.endswith(".py") else (package / source).rglob("*.py"))
        if file.name not in IRRELEVANT
    ]
    texts = {file.relative_to(package).as_posix(): file.read_text(encoding="utf-8") for file in files}
    return digest([texts, {name: metadata.version(name) for name in PACKAGES}])


def configuration(game: GameConfig, train: TrainConfig) -> dict[str, Any]:
    """All fields by name as JSON values, without the seeds."""
    fields = dataclasses.asdict(game) | dataclasses.asdict(train)
    fields["net_arch"] = list(train.net_arch)
    return {name: value for name, value in fields.items() if name not in ("seed", "seeds")}


def training_key(game: GameConfig, train: TrainConfig, minutes: float | None) -> str:
    """Key of a cell: a hash of everything but the seeds that its training depends on."""
    return digest([configuration(game, train), minutes, code_version()])


def condition_key(game: GameConfig, episodes: int) -> str:
    """Key of an evaluation of a cell."""
    return digest([dataclasses.asdict(game), episodes])


def program_key(task: Task) -> str:
    """Equal for tasks that may share a compiled program."""
    fields = dataclasses.asdict(task.game) | dataclasses.asdict(task.train)
    return str({name: value for name, value in fields.items() if name not in (*TRACED_FIELDS, "seed")})
