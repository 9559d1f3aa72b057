"""The figures of a run: TensorBoard and JSON lines in `logs/`, and a plot of the evaluations."""

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdodge.figures import new_figure
from jaxdodge.files import atomic_write, error_line
from jaxdodge.runs.folder import Run


class Events:
    """A TensorBoard file, written synchronously: tensorboardX's writer hangs if its thread dies.

    Args:
        folder: where TensorBoard looks for files.
        start: environment steps from which on TensorBoard discards the figures of older files.
    """

    def __init__(self, folder: Path, start: int):
        from tensorboardX.proto.event_pb2 import SessionLog
        from tensorboardX.record_writer import RecordWriter

        self._records = RecordWriter(f"{folder}/events.out.tfevents.{time.time():.0f}.{socket.gethostname()}")
        self._write(file_version="brain.Event:2")
        self._write(step=start, session_log=SessionLog(status=SessionLog.START))

    def _write(self, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())

    def write(self, timesteps: int, figures: dict[str, float]) -> None:
        """Add figures, by the names that TensorBoard shows."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._write(step=timesteps, summary=Summary(value=values))
        self._records.flush()

    def close(self) -> None:
        """Finish the file."""
        self._records.close()


class Log:
    """The logs of a run, written at each evaluation.

    Args:
        run: a run of one seed.
        timesteps: environment steps at which the run starts or resumes. Figures of later steps are
            removed, because they will be logged again.

    Raises:
        OSError: also from its methods. Figures that could not be written are written the next time.
    """

    def __init__(self, run: Run, timesteps: int = 0):
        self._run = run
        self.path = run.folder / "logs" / "metrics.jsonl"
        kept = [line for line in _lines(self.path) if line["timesteps"] <= timesteps]
        atomic_write(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._events = Events(run.folder / "logs", timesteps + 1)

    def write(self, evaluation: dict[str, float], figures: dict[str, float]) -> None:
        """Add an evaluation, with its environment steps as `timesteps`, and other figures."""
        named = {f"evaluation/{name}": value for name, value in evaluation.items() if name != "timesteps"}
        self._file.write(json.dumps({"timesteps": evaluation["timesteps"]} | named | figures) + "\n")
        try:
            self._events.write(int(evaluation["timesteps"]), named | figures)
        finally:
            self._file.flush()

    def close(self) -> None:
        """Finish the files and draw the learning curve."""
        with self._file, contextlib.closing(self._events):
            pass
        plot([self._run], self._run)


def plot(runs: list[Run], target: Run) -> None:
    """Draw the mean return over the environment steps into `target`.

    For one run, with the standard deviation over episodes; for several, each run, their mean, and
    the 95 % interval of the mean. A plot that cannot be drawn is reported in one line.
    """
    path = target.folder / "plots" / "learning_curves.png"
    try:
        _draw(runs, path)
    except Exception as error:  # of any kind; a plot never decides about results
        print(f"{path}: not drawn ({error_line(error, 300)})", file=sys.stderr)


def _draw(runs: list[Run], path: Path) -> None:
    curves = [list(_lines(run.folder / "logs" / "metrics.jsonl")) for run in runs]
    if not min(len(curve) for curve in curves):
        return
    count = min(len(curve) for curve in curves)
    steps = np.array([line["timesteps"] for line in curves[0][:count]])
    means = np.array([[line["evaluation/mean"] for line in curve[:count]] for curve in curves])
    mean, label = means.mean(axis=0), "mean return"
    if len(runs) == 1:
        std = np.array([line["evaluation/std"] for line in curves[0][:count]])
        low, high, label = mean - std, mean + std, f"{label} and standard deviation"
    else:
        from jaxdodge.evaluation.statistics import bootstrap_interval

        low, high = np.array([bootstrap_interval(column, np.mean) for column in means.T]).T
        label = f"{label} of {len(runs)} seeds and its 95 % interval"
    figure = new_figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(steps, low, high, alpha=0.2, linewidth=0)
    axes.plot(steps, mean, marker="o")
    if len(runs) > 1:
        axes.plot(steps, means.T, linewidth=0.7, color="gray", zorder=1)
    axes.set(xlabel="environment steps", ylabel=label, title="Evaluation")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSON-lines file, except those that are incomplete or damaged."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            figures = json.loads(line)
            if isinstance(figures, dict) and isinstance(figures.get("timesteps"), int):
                yield figures
