"""What a training run shows: a progress bar on a terminal, and a line per evaluation everywhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingProgress:
    """Context manager; the bar shows steps/s, updates/s, the latest evaluation and the time left."""

    def __init__(self, total: int):
        """total: environment steps of the run."""
        # Without a terminal there is nothing to fit a line into; it must not be broken.
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rates]}  {task.fields[evaluation]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, rates="compiling", evaluation="")
        self._start = time.perf_counter()

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def advance(self, steps: int, rates: dict[str, float]) -> None:
        """Show that environment steps were done, and the present rates per second."""
        text = f"{rates['steps_per_second']:,.0f} steps/s  {rates['updates_per_second']:,.0f} updates/s"
        self._bar.update(self._task, advance=steps, rates=text)

    def evaluation(self, evaluation: dict[str, float], rates: dict[str, float]) -> None:
        """Print an evaluation, with the environment steps before it as `timesteps`."""
        self._bar.update(self._task, evaluation=f"return {evaluation['mean']:.1f}")
        self._console.print(
            f"{time.perf_counter() - self._start:6.1f} s  {evaluation['timesteps']:>11,} steps  "
            f"{rates['steps_per_second']:>9,.0f} steps/s  {rates['updates_per_second']:>7,.0f} updates/s  "
            f"return {evaluation['mean']:7.1f} ± {evaluation['std']:5.1f}  "
            f"survival {evaluation['survival']:6.1%}"
        )
