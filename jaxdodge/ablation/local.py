"""Computing tasks on this machine: one after the other, in a process of their own.

What takes more memory than there is ends that process and not the study; the next task gets a new one. A
process serves many tasks, because those that differ in numbers alone share what is compiled. Nothing here
imports JAX before that process does, so that it has the device for itself.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from jaxdodge.ablation.cells import Task
from jaxdodge.fields import ConfigError
from jaxdodge.files import one_line

# Seconds after which a process that is to stop is killed: an epoch, a checkpoint, or a compilation.
PATIENCE = 120.0
# Seconds between looks at whether the study is to stop.
TICK = 0.2

# How a task can end.
FAILURES = ("refused", "diverged", "failed")
ENDS = ("done", *FAILURES)
Interrupted = Callable[[], str | None]


class News(NamedTuple):
    """What has become of a task."""

    task: int
    """Its index."""
    kind: str
    """begun, progress, result; and at the end done, refused, diverged or failed."""
    content: Any = None
    """progress: see `compute`; result: its name and itself; refused, diverged, failed: why."""


def run_locally(
    tasks: Sequence[Task],
    interrupted: Interrupted,
    log: Path,
    compiled: Path,
    job: Callable[..., Iterator[Any]] | None = None,
) -> Iterator[News]:
    """Compute tasks, in their order.

    If `interrupted` gives a reason, the present task saves what it has, and nothing more comes.

    Args:
        tasks: to compute.
        interrupted: asked several times per second.
        log: file that gets what libraries print; appended to.
        compiled: folder for compiled programs, which the next process need not compile again.
        job: in place of `compute`.
    """
    worker: _Worker | None = None
    try:
        for index, task in enumerate(tasks):
            if interrupted():
                return
            worker = worker or _Worker(log, compiled, job)
            yield News(index, "begun")
            for news in worker.news(index, task, interrupted):
                yield news
                if news.kind == "failed":
                    # What an error in the middle has left behind is not known.
                    worker.end()
                    worker = None
                    break
    finally:
        if worker:
            worker.end()


class _Worker:
    """The process, from here."""

    def __init__(self, log: Path, compiled: Path, job: Callable[..., Iterator[Any]] | None):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, log, compiled, job), daemon=True)
        self.process.start()
        # Ours is closed so that reading ends with the process.
        theirs.close()

    def news(self, index: int, task: Task, interrupted: Interrupted) -> Iterator[News]:
        """What it says of a task, until that is over; or, interrupted, until it has saved."""
        try:
            self._connection.send(task)
            asked = False
            while True:
                if not asked and interrupted():
                    asked = True
                    self._connection.send("stop")
                if not self._connection.poll(PATIENCE if asked else TICK):
                    if asked:
                        return
                    continue
                kind, content = self._connection.recv()
                if kind == "stopped":
                    return
                yield News(index, kind, content)
                if kind in ENDS:
                    return
        except (EOFError, OSError):
            self.process.join()
            yield News(index, "failed", _why_ended(self.process.exitcode or 0))

    def end(self) -> None:
        """Kill it; what it had to save it has saved."""
        self.process.kill()
        self.process.join()
        self._connection.close()


def _why_ended(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    name = signal.Signals(-status).name
    memory = "; the system does that when memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{memory}"


def _serve(
    connection: Connection, log: Path, compiled: Path, job: Callable[..., Iterator[Any]] | None
) -> None:
    """The process: take tasks, send news of them. It ends with the one that has started it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A terminal sends them to both; the other process says what is to be done.
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _print_to(log)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{compiled.absolute()}")
    if job is None:
        from jaxdodge.ablation.compute import compute

        job = compute

    def interrupted() -> str | None:
        return "stopped" if connection.poll() else None

    while True:
        task = connection.recv()
        try:
            for result in job(task, lambda news: connection.send(("progress", news)), interrupted):
                connection.send(("result", result))
            connection.send(("stopped" if interrupted() else "done", None))
        except Exception as error:
            connection.send(explain(error))


def explain(error: Exception) -> tuple[str, str]:
    """The kind of news that an error of `compute` is, and a line about it."""
    from jaxdodge.runs.loop import DivergedError

    line = one_line(error)
    if isinstance(error, DivergedError):
        return "diverged", line
    if isinstance(error, ConfigError):
        return "refused", line
    traceback.print_exception(error)
    if "RESOURCE_EXHAUSTED" in line or isinstance(error, MemoryError):
        return "failed", f"out of memory: {line[:200]}"
    return "failed", f"{type(error).__name__}: {line[:200]}"


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os._exit(1)


def _print_to(log: Path) -> None:
    """Libraries too, also those that are not Python."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(descriptor, stream)
