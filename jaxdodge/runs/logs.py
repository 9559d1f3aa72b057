"""The figures of a run: TensorBoard and JSON lines in `logs/`, and a plot of the evaluations."""

import contextlib
import importlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from jaxdodge.agents.trainer import EpochMetrics
from jaxdodge.fields import ConfigError
from jaxdodge.figures import new_figure
from jaxdodge.files import atomic_write, error_line
from jaxdodge.runs.folder import Run, configuration


class Events:
    """A TensorBoard file, written synchronously: tensorboardX's writer hangs if its thread dies.

    Args:
        folder: where TensorBoard looks for files.
        start: environment steps from which on TensorBoard discards the figures of older files.
    """

    def __init__(self, folder: Path, start: int):
        self._records = RecordWriter(f"{folder}/events.out.tfevents.{time.time():.0f}.{socket.gethostname()}")
        self._write(file_version="brain.Event:2")
        self._write(step=start, session_log=SessionLog(status=SessionLog.START))

    def _write(self, **content: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())

    def write(self, timesteps: int, figures: dict[str, float]) -> None:
        """Add figures, by the names that TensorBoard shows."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._write(step=timesteps, summary=Summary(value=values))
        self._records.flush()

    def close(self) -> None:
        """Finish the file."""
        self._records.close()


class WandbRun:
    """A run of Weights & Biases, beside a run's own logs.

    Args:
        run: a run of one seed, whose path names it.
        project: where it is listed.

    Raises:
        ConfigError: the package is missing, or it cannot start a run.
    """

    def __init__(self, run: Run, project: str):
        try:
            # An extra, which mypy and the tests do without.
            wandb = importlib.import_module("wandb")
        except ImportError:
            raise ConfigError("wandb: not installed; expected pip install 'jaxdodge[wandb]'") from None
        name = "-".join(run.folder.absolute().parts[-3 if run.folder.name.startswith("seed_") else -2 :])
        try:
            # The id lets a resumed run go on in the same one.
            self._run = wandb.init(
                project=project,
                id=name,
                name=name,
                dir=f"{run.folder / 'logs'}",
                config=configuration(*run.config()),
                resume="allow",
            )
        except Exception as error:  # of its own kinds, for example without a login
            raise ConfigError(f"wandb: {error_line(error, 300)}") from None

    def write(self, timesteps: int, figures: dict[str, float]) -> None:
        """Add figures."""
        self._run.log(figures, step=timesteps)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class Log:
    """The logs of a run, written at each evaluation.

    Args:
        run: a run of one seed.
        timesteps: environment steps at which the run starts or resumes. Figures of later steps are
            removed, because they will be logged again; all of them, if it starts at 0.
        wandb: project of Weights & Biases that gets the figures too.

    Raises:
        OSError: also from its methods. Figures that could not be written are written the next time.
    """

    def __init__(self, run: Run, timesteps: int = 0, wandb: str | None = None):
        self._run = run
        self.path = run.folder / "logs" / "metrics.jsonl"
        kept = [line for line in _lines(self.path) if timesteps > 0 and line["timesteps"] <= timesteps]
        atomic_write(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._events = Events(run.folder / "logs", timesteps and timesteps + 1)
        self._wandb = WandbRun(run, wandb) if wandb is not None else None

    def write(self, evaluation: dict[str, float], figures: dict[str, float]) -> None:
        """Add an evaluation, with its environment steps as `timesteps`, and other figures."""
        named = {f"evaluation/{name}": value for name, value in evaluation.items() if name != "timesteps"}
        self._file.write(json.dumps({"timesteps": evaluation["timesteps"]} | named | figures) + "\n")
        if self._wandb:
            self._wandb.write(int(evaluation["timesteps"]), named | figures)
        try:
            self._events.write(int(evaluation["timesteps"]), named | figures)
        finally:
            self._file.flush()

    def close(self) -> None:
        """Finish the files and draw the learning curve."""
        with self._file, contextlib.closing(self._events):
            pass
        if self._wandb:
            self._wandb.close()
        plot([self._run], self._run)


def epoch_means(metrics: EpochMetrics) -> list[dict[str, float]]:
    """The means of an epoch's metrics for each seed, by their names in the logs."""
    steps_with_updates = np.maximum(metrics.learning.sum(axis=1), 1)
    means = {name: values.mean(axis=1) for name, values in metrics.collected.items()}
    means |= {name: values.sum(axis=1) / steps_with_updates for name, values in metrics.learned.items()}
    seeds = range(len(metrics.learning))
    return [{f"training/{name}": float(mean[seed]) for name, mean in means.items()} for seed in seeds]


def plot(runs: list[Run], target: Run) -> None:
    """Draw return and survival over the environment steps into `target`.

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
    count = min(len(curve) for curve in curves)
    if not count:
        return
    steps = np.array([line["timesteps"] for line in curves[0][:count]])
    figure = new_figure(figsize=(11, 4.5), layout="constrained")
    panels = zip(figure.subplots(1, 2), (("mean", "return"), ("survival", "survival, %")), strict=True)
    for axes, (name, label) in panels:
        factor = 100 if name == "survival" else 1
        values = factor * np.array(
            [[line.get(f"evaluation/{name}", np.nan) for line in curve[:count]] for curve in curves]
        )
        mean, (low, high, band) = values.mean(axis=0), _band(name, curves, values, factor)
        axes.fill_between(steps, low, high, alpha=0.2, linewidth=0, label=band)
        axes.plot(steps, mean, marker="o", markersize=3, label="mean")
        for number, own in enumerate(values if len(runs) > 1 else ()):
            axes.plot(
                steps, own, linewidth=0.7, color="gray", zorder=1, label=None if number else "each seed"
            )
        axes.set(xlabel="environment steps" + (" of a seed" if len(runs) > 1 else ""), ylabel=label)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.tick_params(axis="x", labelrotation=20)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    figure.suptitle(f"{path.parents[2].name}/{path.parents[1].name}: evaluations during training")
    figure.savefig(path, dpi=120)


def _band(
    name: str, curves: list[list[dict[str, Any]]], values: np.ndarray, factor: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Lower and upper ends of a figure's band, and what it is.

    Args:
        name: of the figure, "mean" or "survival".
        curves: lines of each run.
        values: of the figure, (runs, evaluations).
        factor: on the figure's values.
    """
    if len(curves) > 1:
        from jaxdodge.evaluation.statistics import bootstrap_interval

        low, high = np.array([bootstrap_interval(column, np.mean) for column in values.T]).T
        return low, high, f"95 % interval of the mean of {len(curves)} seeds"

    def own(name: str) -> np.ndarray:
        return factor * np.array([line.get(f"evaluation/{name}", np.nan) for line in curves[0]])

    if name == "survival":
        return own("survival_low"), own("survival_high"), "95 % interval over episodes (Wilson)"
    return values[0] - own("std"), values[0] + own("std"), "standard deviation over episodes"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSON-lines file, except those that are incomplete or damaged."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            figures = json.loads(line)
            if isinstance(figures, dict) and isinstance(figures.get("timesteps"), int):
                yield figures
