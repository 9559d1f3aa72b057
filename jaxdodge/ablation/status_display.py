"""Shows a running study: a live table of its cells on a terminal, otherwise a line per event."""

import time
from typing import Any

from rich.live import Live
from rich.table import Table

from jaxdodge.evaluation.tables import seconds_text
from jaxdodge.outputs import plain_console

# Largest number of cells for which the table lists every cell; larger studies list only the active
# ones.
MAX_LISTED = 30


class StatusDisplay:
    """Context manager; cells are identified by their names."""

    def __init__(self, cells: list[str]):
        self._console = plain_console()
        self._state = dict.fromkeys(cells, "waiting")
        self._progress: dict[str, dict[str, Any]] = {cell: {} for cell in cells}
        self._started: dict[str, float] = {}
        self._durations: list[float] = []
        self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=2)

    def __enter__(self) -> "StatusDisplay":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._live.stop()

    def skip(self, cell: str, score: float | None) -> None:
        """The cell was finished before."""
        self._state[cell] = "finished earlier"
        self._progress[cell] = {"done": 1.0, "score": score}

    def start(self, cell: str) -> None:
        """The cell starts."""
        self._state[cell] = "compiling"
        self._started.setdefault(cell, time.monotonic())
        self._log(cell, "started")

    def progress(self, cell: str, progress: dict[str, Any]) -> None:
        """New values of `done` (0 to 1), `left` (seconds) or `score`."""
        self._state[cell] = "training"
        self._progress[cell] |= progress
        if "score" in progress:
            done = self._progress[cell].get("done", 0.0)
            self._log(cell, f"{done:4.0%}  return {progress['score']:.1f}  {self._left(cell)} left")

    def end(self, cell: str, score: float | None, error: str | None = None) -> None:
        """The cell has finished, or failed."""
        seconds = time.monotonic() - self._started.get(cell, time.monotonic())
        self._state[cell] = "failed" if error else "finished"
        if error:
            self._progress[cell].pop("left", None)
            self._console.print(f"{cell}: failed: {error}")
            return
        self._durations.append(seconds)
        self._progress[cell] = {"done": 1.0, "score": score}
        self._log(cell, f"finished in {seconds_text(seconds)}, score {score:.1f}")

    def _log(self, cell: str, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{cell}: {text}")

    def _left(self, cell: str) -> str:
        left = self._progress[cell].get("left")
        return "" if left is None else seconds_text(left)

    def _table(self) -> Table:
        """The cells; in the last row, the number of waiting cells and their estimated time."""
        table = Table(box=None, pad_edge=False)
        for name, side in (("cell", "left"), ("", "left"), ("done", "right"), ("score", "right")):
            table.add_column(name, justify=side)  # type: ignore[arg-type]
        table.add_column("left", justify="right")
        active = [cell for cell, state in self._state.items() if state in ("compiling", "training")]
        for cell, state in self._state.items():
            if len(self._state) <= MAX_LISTED or cell in active:
                progress = self._progress[cell]
                score = progress.get("score")
                score_text = "" if score is None else f"{score:.1f}"
                table.add_row(cell, state, f"{progress.get('done', 0):.0%}", score_text, self._left(cell))
        waiting = list(self._state.values()).count("waiting")
        if waiting:
            left = ""
            if self._durations:
                mean = sum(self._durations) / len(self._durations)
                current = max((self._progress[cell].get("left") or 0.0 for cell in active), default=0)
                left = seconds_text(waiting * mean / max(len(active), 1) + current)
            table.add_row(f"{waiting} waiting", "", "", "", left)
        return table
