"""The results of tasks on disk: one JSON file each, complete or absent. Does not import JAX."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxdodge.ablation.tasks import Task
from jaxdodge.files import atomic_write, read_json


class ResultStore:
    """The results of tasks in one folder.

    Args:
        folder: created with the first result.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, name: str, result: dict[str, Any]) -> None:
        """Write a result; if its file exists, merge the evaluations and their cost.

        Raises:
            OSError: it could not be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.json"
        existing = _read(path)
        if existing and "error" not in existing:
            seconds = sum(one["cost"]["evaluation_seconds"] for one in (existing, result))
            memory = max(one["cost"]["memory_bytes"] for one in (existing, result))
            result = result | {
                "evaluations": existing["evaluations"] | result["evaluations"],
                "cost": result["cost"] | {"evaluation_seconds": seconds, "memory_bytes": memory},
            }
        atomic_write(path, json.dumps(result, indent=1) + "\n")

    def results(self, key: str) -> list[dict[str, Any]]:
        """All results of a cell in the order of their seeds; damaged files count as absent."""
        results = [_read(path) for path in self.folder.glob(f"{key}.*.json")]
        return sorted((one for one in results if one and one["key"] == key), key=lambda one: one["seeds"])

    def missing(self, task: Task) -> list[Task]:
        """What is left of a task: seeds to train, and evaluations of seeds that are trained."""
        untrained = set(task.seeds)
        tasks = []
        for result in self.results(task.key):
            seeds = result["seeds"]
            if untrained.isdisjoint(seeds):
                continue
            untrained -= set(seeds)
            if "error" in result:
                continue
            done = result.get("evaluations", {})
            missing = {key: game for key, game in task.conditions.items() if key not in done}
            if missing:
                trained = task.with_seeds(seeds[0], len(seeds))
                tasks.append(dataclasses.replace(trained, conditions=missing))
        return tasks + [task.with_seeds(first, count) for first, count in _ranges(untrained)]


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First number and length of each contiguous range."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == sum(ranges[-1]):
            ranges[-1] = ranges[-1][0], ranges[-1][1] + 1
        else:
            ranges.append((number, 1))
    return ranges


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"key", "seeds"} <= content.keys() else None
