"""Computes tasks on this machine, one after another, in a worker process.

A task that exhausts the memory ends the worker and not the study; the next task gets a new worker.
A worker computes many tasks, because tasks that differ only in `GameParams` share compiled
programs. Only the worker imports JAX, so that it has the device for itself.
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

from jaxdodge.ablation.tasks import Task
from jaxdodge.fields import ConfigError
from jaxdodge.files import one_line

# Seconds until a worker that should stop is killed: enough for an epoch, a checkpoint, or a
# compilation.
STOP_TIMEOUT = 120.0
# Seconds between checks whether the study is interrupted.
POLL_SECONDS = 0.2

# The ways a task can end.
FAILURES = ("invalid", "diverged", "failed")
ENDS = ("done", *FAILURES)
Interrupted = Callable[[], str | None]
# In place of `compute`, with its arguments.
Job = Callable[..., Iterator[Any]]


class Event(NamedTuple):
    """A report on a task."""

    task: int
    """Its index."""
    kind: str
    """started, progress, result; at the end done, invalid, diverged or failed."""
    content: Any = None
    """progress: see `compute`; result: name and result; invalid, diverged, failed: the reason."""


def run_locally(
    tasks: Sequence[Task], interrupted: Interrupted, log: Path, cache: Path, job: Job | None = None
) -> Iterator[Event]:
    """Compute tasks in order.

    When `interrupted` returns a reason, the current task saves its state and the events end.

    Args:
        tasks: to compute.
        interrupted: called several times per second.
        log: file to which the output of the worker is appended.
        cache: folder for compiled programs, which later workers reuse.
        job: in place of `compute`.
    """
    worker: _Worker | None = None
    try:
        for index, task in enumerate(tasks):
            if interrupted():
                return
            worker = worker or _Worker(log, cache, job)
            yield Event(index, "started")
            for event in worker.run(index, task, interrupted):
                yield event
                if event.kind == "failed":
                    # After an unexpected error the state of the process is unknown.
                    worker.kill()
                    worker = None
                    break
    finally:
        if worker:
            worker.kill()


class _Worker:
    """The worker process, seen from the study."""

    def __init__(self, log: Path, cache: Path, job: Job | None):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, log, cache, job), daemon=True)
        self.process.start()
        # With our copy closed, reading fails as soon as the worker ends.
        theirs.close()

    def run(self, index: int, task: Task, interrupted: Interrupted) -> Iterator[Event]:
        """The events of a task until it ends or, when interrupted, has saved its state."""
        try:
            self._connection.send(task)
            stopping = False
            while True:
                if not stopping and interrupted():
                    stopping = True
                    self._connection.send("stop")
                if not self._connection.poll(STOP_TIMEOUT if stopping else POLL_SECONDS):
                    if stopping:
                        return
                    continue
                kind, content = self._connection.recv()
                if kind == "stopped":
                    return
                yield Event(index, kind, content)
                if kind in ENDS:
                    return
        except (EOFError, OSError):
            self.process.join()
            yield Event(index, "failed", _exit_reason(self.process.exitcode or 0))

    def kill(self) -> None:
        """End the worker at once."""
        self.process.kill()
        self.process.join()
        self._connection.close()


def _exit_reason(status: int) -> str:
    if status >= 0:
        return f"worker process exited with status {status}"
    name = signal.Signals(-status).name
    memory = "; the system kills processes when memory runs out" if name == "SIGKILL" else ""
    return f"worker process killed by {name}{memory}"


def _work(connection: Connection, log: Path, cache: Path, job: Job | None) -> None:
    """The worker's main function: receive tasks, send events, and end with the parent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A terminal sends them to both processes; the parent decides what to do.
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _redirect_output(log)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{cache.absolute()}")
    if job is None:
        from jaxdodge.ablation.compute import compute

        job = compute

    def interrupted() -> str | None:
        return "stopped" if connection.poll() else None

    while True:
        task = connection.recv()
        try:
            for result in job(task, lambda progress: connection.send(("progress", progress)), interrupted):
                connection.send(("result", result))
            connection.send(("stopped" if interrupted() else "done", None))
        except Exception as error:
            connection.send(failure(error))


def failure(error: Exception) -> tuple[str, str]:
    """Kind and content of the event that reports an error of a task."""
    from jaxdodge.runs.loop import DivergedError

    line = one_line(error)
    if isinstance(error, DivergedError):
        return "diverged", line
    if isinstance(error, ConfigError):
        return "invalid", line
    traceback.print_exception(error)
    if "RESOURCE_EXHAUSTED" in line or isinstance(error, MemoryError):
        return "failed", f"out of memory: {line[:200]}"
    return "failed", f"{type(error).__name__}: {line[:200]}"


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os._exit(1)


def _redirect_output(log: Path) -> None:
    """Append standard output and error to a file, also those of native libraries."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(descriptor, stream)
