"""The CSV file of an evaluation: a row for each episode."""

import contextlib
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdodge.files import atomic_open

if TYPE_CHECKING:
    from jaxdodge.evaluation.episodes import Episodes

# Columns after those of the condition.
OUTCOMES = ["episode", "return", "responses", "survived"]


@contextlib.contextmanager
def episode_csv(
    path: Path | None, columns: list[str]
) -> Iterator[Callable[[dict[str, Any], "Episodes"], None]]:
    """A function that adds the episodes of a condition, given its labels.

    The file appears, or is replaced, when the block ends: also after an interruption, but only if
    it has rows.

    Args:
        path: of the file; None to write nothing.
        columns: names of the labels.

    Raises:
        OSError: it cannot be written.
    """
    if path is None:
        yield lambda labels, episodes: None
        return
    interruption = None
    with atomic_open(path) as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *OUTCOMES])
        start = file.tell()

        def write(labels: dict[str, Any], episodes: "Episodes") -> None:
            survived = np.asarray(episodes.survived, int)
            outcomes = zip(np.asarray(episodes.returns), np.asarray(episodes.lengths), survived, strict=True)
            writer.writerows([*labels.values(), index, *outcome] for index, outcome in enumerate(outcomes))

        try:
            yield write
        except BaseException as error:
            if file.tell() == start:
                raise
            interruption = error
    if interruption:
        raise interruption
