"""What a training run prints: a line per evaluation, and a progress bar on a terminal."""

import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jaxdodge.outputs import plain_console


class TrainingProgress:
    """A context manager; the bar shows steps/s, updates/s, the latest evaluation and the time left.

    Args:
        total: environment steps of the run.
        done: environment steps so far.
        seconds: returns how long the run has taken.
    """

    def __init__(self, total: int, done: int, seconds: Callable[[], float]):
        self._console = plain_console()
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rates]}  {task.fields[evaluation]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._seconds = seconds
        fields: dict[str, Any] = {"rates": "" if done else "first evaluation", "evaluation": "", "left": ""}
        self._task = self._bar.add_task("", total=total, completed=done, **fields)

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line)

    def advance(self, steps: int, rates: dict[str, float], left: float | None) -> None:
        """Advance by environment steps; show rates per second and, if known, seconds left."""
        text = f"{rates['steps_per_second']:,.0f} steps/s  {rates['updates_per_second']:,.0f} updates/s"
        shown = "" if left is None else f"left {datetime.timedelta(seconds=round(left))}"
        self._bar.update(self._task, advance=steps, rates=text, left=shown)

    def evaluation(self, evaluations: list[dict[str, float]], rates: dict[str, float]) -> None:
        """Print the evaluations of all seeds, with their environment steps as `timesteps`.

        Before the first epoch there are no rates.
        """
        mean, std, survival = (
            float(np.mean([evaluation[name] for evaluation in evaluations]))
            for name in ("mean", "std", "survival")
        )
        speed = f"{'before the first update':34}"
        if rates:
            speed = (
                f"{rates['steps_per_second']:>9,.0f} steps/s  {rates['updates_per_second']:>7,.0f} updates/s"
            )
        text = f"return {mean:7.1f} ± {std:5.1f}  survival {survival:6.1%}"
        if len(evaluations) > 1:
            each = " ".join(f"{evaluation['mean']:.1f}" for evaluation in evaluations)
            text = f"return {mean:7.1f}  survival {survival:6.1%}  seeds: {each}"
        self._bar.update(self._task, evaluation=f"return {mean:.1f}")
        if not rates:
            self._bar.update(self._task, rates="first epoch")
        self.say(f"{self._seconds():6.1f} s  {evaluations[0]['timesteps']:>11,} steps  {speed}  {text}")
