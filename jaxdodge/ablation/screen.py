"""What a study shows while it runs: a live table of its cells on a terminal, else a line per event."""

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from jaxdodge.evaluation.tables import seconds_text

# On a terminal, cells of a large study beyond those that are being computed are counted, not listed.
LISTED = 30


class Screen:
    """Context manager; cells are known by their names."""

    def __init__(self, cells: list[str]):
        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._state = dict.fromkeys(cells, "waiting")
        self._news: dict[str, dict[str, Any]] = {cell: {} for cell in cells}
        self._began: dict[str, float] = {}
        self._took: list[float] = []
        self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=2)

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line)

    def skip(self, cell: str, score: float | None) -> None:
        """The cell is there already."""
        self._state[cell] = "there already"
        self._news[cell] = {"done": 1.0, "score": score}

    def begin(self, cell: str) -> None:
        """The cell is being computed."""
        self._state[cell] = "compiling"
        self._began.setdefault(cell, time.monotonic())
        self._line(cell, "begins")

    def progress(self, cell: str, news: dict[str, Any]) -> None:
        """`done` (0 to 1), `left` (seconds), `score`: what is new of them."""
        self._state[cell] = "training"
        self._news[cell] |= news
        if "score" in news:
            done = self._news[cell].get("done", 0.0)
            self._line(cell, f"{done:4.0%}  return {news['score']:.1f}  {self._left(cell)} left")

    def end(self, cell: str, score: float | None, error: str | None = None) -> None:
        """The cell is finished, or has failed."""
        took = time.monotonic() - self._began.get(cell, time.monotonic())
        self._state[cell] = "failed" if error else "finished"
        if error:
            self._news[cell].pop("left", None)
            self.say(f"{cell}: failed: {error}")
            return
        self._took.append(took)
        self._news[cell] = {"done": 1.0, "score": score}
        self._line(cell, f"finished in {seconds_text(took)}, score {score:.1f}")

    def _line(self, cell: str, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{cell}: {text}")

    def _left(self, cell: str) -> str:
        left = self._news[cell].get("left")
        return "" if left is None else seconds_text(left)

    def _table(self) -> Table:
        """The cells; below, how many are left and about how long they will take."""
        table = Table(box=None, pad_edge=False)
        for name, side in (("cell", "left"), ("", "left"), ("done", "right"), ("score", "right")):
            table.add_column(name, justify=side)  # type: ignore[arg-type]
        table.add_column("left", justify="right")
        busy = [cell for cell, state in self._state.items() if state in ("compiling", "training")]
        few = len(self._state) <= LISTED
        for cell, state in self._state.items():
            if few or cell in busy:
                news = self._news[cell]
                score = news.get("score")
                shown = "" if score is None else f"{score:.1f}"
                table.add_row(cell, state, f"{news.get('done', 0):.0%}", shown, self._left(cell))
        waiting = list(self._state.values()).count("waiting")
        if waiting:
            guess = ""
            if self._took:
                left = waiting * sum(self._took) / len(self._took)
                guess = seconds_text(left / max(len(busy), 1) + max(map(self._seconds_left, busy), default=0))
            table.add_row(f"{waiting} waiting", "", "", "", guess)
        return table

    def _seconds_left(self, cell: str) -> float:
        return self._news[cell].get("left") or 0.0
