"""Computes tasks on a Ray cluster, one task per device.

The driver does not import JAX. If the study's folder is on a file system that all machines share,
the tasks of a lost machine continue from their last checkpoint; otherwise they start over.
"""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from jaxdodge.ablation.local_executor import POLL_SECONDS, Event, Interrupted, Job, failure
from jaxdodge.ablation.tasks import Task
from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line

# Attempts after the first one for tasks whose process or machine is lost.
RETRIES = 3
# Share of a device's memory that JAX preallocates by default.
DEFAULT_MEMORY_SHARE = 0.75
# Bytes of shared memory of a cluster that exists only for the study; results are small.
OBJECT_STORE = 100_000_000


def run_on_ray(
    tasks: Sequence[Task],
    interrupted: Interrupted,
    address: str,
    gpus: float | None = None,
    cpus: float = 1,
    job: Job | None = None,
) -> Iterator[Event]:
    """Compute tasks, as many in parallel as the cluster has devices for.

    When `interrupted` returns a reason, all tasks are stopped at once and the events end.

    Args:
        tasks: to compute.
        interrupted: called several times per second.
        address: of the cluster; "auto" for the one this machine belongs to; "local" for a new one
            on this machine, which ends with the study.
        gpus: GPUs per task, possibly a fraction; default: 1 if the cluster has any.
        cpus: CPUs per task.
        job: in place of `compute`.

    Raises:
        ConfigError: Ray is not installed, the cluster is unreachable, or its machines are too
            small.
    """
    ray = _connect(address)
    try:
        if gpus is None:
            gpus = 1 if ray.cluster_resources().get("GPU") else 0
        _check_resources(ray, gpus, cpus)
        share = DEFAULT_MEMORY_SHARE * min(gpus, 1) if gpus else DEFAULT_MEMORY_SHARE
        # Must be set before the process of a task imports JAX.
        environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{share:.3f}"}
        board = ray.remote(num_cpus=0, max_restarts=0)(_ProgressBoard).remote()
        remote = ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_retries=RETRIES,
            runtime_env={"env_vars": environment},
        )(_compute)
        running = {remote.remote(task, index, board, job): index for index, task in enumerate(tasks)}
        started: set[int] = set()
        while running:
            if interrupted():
                return
            ready, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            # Late progress of tasks that have ended is dropped.
            for index, progress in _read(ray, board, set(running.values())):
                if index not in started:
                    started.add(index)
                    yield Event(index, "started")
                if progress:
                    yield Event(index, "progress", progress)
            for reference in ready:
                index = running.pop(reference)
                if index not in started:
                    # The result arrived before the first progress.
                    yield Event(index, "started")
                try:
                    events = ray.get(reference)
                except ray.exceptions.RayError as error:
                    events = [("failed", _loss_reason(ray, error))]
                yield from (Event(index, kind, content) for kind, content in events)
    finally:
        ray.shutdown()


def _loss_reason(ray: Any, error: Exception) -> str:
    if isinstance(error, ray.exceptions.RayTaskError):
        prefix, error = "", error.cause
    else:
        prefix = f"lost {RETRIES + 1} times: "
    return f"{prefix}{type(error).__name__}: {error_line(error, 200)}"


def _connect(address: str) -> Any:
    # By default Ray retries tasks that run out of memory forever.
    os.environ.setdefault("RAY_task_oom_retries", f"{RETRIES}")
    try:
        import ray
    except ImportError:
        raise ConfigError("ray: not installed; run pip install 'jaxdodge[ray]'") from None
    options: dict[str, Any] = {}
    host, _, port = address.rpartition(":")
    if address == "local":
        options = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    elif port.isdigit() and "/" not in host:
        # Ray itself would retry for minutes.
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(f"ray: {address!r}: cannot connect ({error})") from None
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(f"ray: {address!r}: {error_line(error)}") from None
    return ray


def _check_resources(ray: Any, gpus: float, cpus: float) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= cpus for node in nodes):
        raise ConfigError(f"ray: no machine of the cluster has {gpus:g} GPUs and {cpus:g} CPUs for a cell")


class _ProgressBoard:
    """A Ray actor that collects the progress of all tasks."""

    def __init__(self) -> None:
        self._progress: dict[int, dict[str, Any]] = {}

    def write(self, index: int, progress: dict[str, Any]) -> None:
        self._progress.setdefault(index, {}).update(progress)

    def read(self) -> dict[int, dict[str, Any]]:
        progress, self._progress = self._progress, {}
        return progress


def _read(ray: Any, board: Any, running: set[int]) -> list[tuple[int, dict[str, Any]]]:
    """New progress of running tasks; a lost board does not stop the study."""
    try:
        progress = ray.get(board.read.remote(), timeout=10)
        return [(index, progress[index]) for index in sorted(progress.keys() & running)]
    except ray.exceptions.RayError:
        return []


def _compute(task: Task, index: int, board: Any, job: Job | None) -> list[tuple[str, Any]]:
    """Runs on the machine of the task; returns its results and its end as events."""
    board.write.remote(index, {})
    if job is None:
        from jaxdodge.ablation.compute import compute

        job = compute
    task.folder.mkdir(parents=True, exist_ok=True)
    try:
        results = job(task, lambda progress: board.write.remote(index, progress), lambda: None)
        return [*(("result", result) for result in results), ("done", None)]
    except Exception as error:
        sys.stdout.flush()
        return [failure(error)]
