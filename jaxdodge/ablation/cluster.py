"""Computing tasks on a Ray cluster: one task per cell, on whichever of its machines has a device free.

The driver has no JAX in it. The folder of the study should be on a file system that all machines share: then
a cell whose machine is lost goes on from its last checkpoint, and else from its beginning.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxdodge.ablation.cells import Task
from jaxdodge.ablation.local import TICK, Interrupted, News, explain
from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line

# How often a task is tried again whose process or machine is lost.
RETRIES = 3
# Share of a device's memory that JAX takes by default.
DEFAULT_MEMORY_SHARE = 0.75
# Bytes of shared memory of a cluster that lives as long as the study; results are small.
OBJECT_STORE = 100_000_000


def run_on_ray(
    tasks: Sequence[Task],
    interrupted: Interrupted,
    address: str,
    gpus: float | None = None,
    cpus: float = 1,
    job: Callable[..., Iterator[Any]] | None = None,
) -> Iterator[News]:
    """Compute tasks, as many at once as there are devices for.

    If `interrupted` gives a reason, all of them end at once, and nothing more comes.

    Args:
        tasks: to compute.
        interrupted: asked several times per second.
        address: of the cluster, or "auto" for the one that this machine belongs to, or "local" for one that
            lives as long as the study.
        gpus: that a cell takes, or the share of one; by default one if the cluster has any.
        cpus: that a cell takes.
        job: in place of `compute`.

    Raises:
        ConfigError: Ray is not installed, there is no cluster, or no machine of it is large enough.
    """
    ray = _connect(address)
    try:
        if gpus is None:
            gpus = 1 if ray.cluster_resources().get("GPU") else 0
        _refuse_too_little(ray, gpus, cpus)
        share = DEFAULT_MEMORY_SHARE * min(gpus, 1) if gpus else DEFAULT_MEMORY_SHARE
        # Set before the process of a task imports JAX.
        environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{share:.3f}"}
        board = ray.remote(num_cpus=0, max_restarts=0)(_Board).remote()
        remote = ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_retries=RETRIES,
            runtime_env={"env_vars": environment},
        )(_compute)
        running = {remote.remote(task, index, board, job): index for index, task in enumerate(tasks)}
        begun: set[int] = set()
        while running:
            if interrupted():
                return
            ready, _ = ray.wait(list(running), timeout=TICK)
            # What comes late, of a task that is over, is dropped.
            for index, news in _read(ray, board, set(running.values())):
                if index not in begun:
                    begun.add(index)
                    yield News(index, "begun")
                if news:
                    yield News(index, "progress", news)
            for reference in ready:
                index = running.pop(reference)
                if index not in begun:
                    # Its end has overtaken what it told.
                    yield News(index, "begun")
                try:
                    found = ray.get(reference)
                except ray.exceptions.RayError as error:
                    found = [("failed", _why_lost(ray, error))]
                yield from (News(index, kind, content) for kind, content in found)
    finally:
        ray.shutdown()


def _why_lost(ray: Any, error: Exception) -> str:
    if isinstance(error, ray.exceptions.RayTaskError):
        how, error = "", error.cause
    else:
        how = f"lost {RETRIES + 1} times: "
    return f"{how}{type(error).__name__}: {error_line(error, 200)}"


def _connect(address: str) -> Any:
    # Of what runs out of memory as of what is lost otherwise: by default it is tried without end.
    os.environ.setdefault("RAY_task_oom_retries", f"{RETRIES}")
    try:
        import ray
    except ImportError:
        raise ConfigError("ray: not installed; pip install 'jaxdodge[ray]' brings it") from None
    own: dict[str, Any] = {}
    host, _, port = address.rpartition(":")
    if address == "local":
        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    elif port.isdigit() and "/" not in host:
        # Ray would try for minutes.
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(f"ray: {address!r}: nothing answers there ({error})") from None
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(f"ray: {address!r}: {error_line(error)}") from None
    return ray


def _refuse_too_little(ray: Any, gpus: float, cpus: float) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= cpus for node in nodes):
        raise ConfigError(f"ray: no machine of the cluster has {gpus:g} GPUs and {cpus:g} CPUs for a cell")


class _Board:
    """What the tasks tell of their progress."""

    def __init__(self) -> None:
        self._news: dict[int, dict[str, Any]] = {}

    def write(self, index: int, news: dict[str, Any]) -> None:
        self._news.setdefault(index, {}).update(news)

    def read(self) -> dict[int, dict[str, Any]]:
        news, self._news = self._news, {}
        return news


def _read(ray: Any, board: Any, running: set[int]) -> list[tuple[int, dict[str, Any]]]:
    """What is new on the board; without it a study goes on, and only tells less."""
    try:
        news = ray.get(board.read.remote(), timeout=10)
        return [(index, news[index]) for index in sorted(news.keys() & running)]
    except ray.exceptions.RayError:
        return []


def _compute(
    task: Task, index: int, board: Any, job: Callable[..., Iterator[Any]] | None
) -> list[tuple[str, Any]]:
    """The task on its machine: results, and how it has ended, as news."""
    board.write.remote(index, {})
    if job is None:
        from jaxdodge.ablation.compute import compute

        job = compute
    task.folder.mkdir(parents=True, exist_ok=True)
    try:
        results = job(task, lambda news: board.write.remote(index, news), lambda: None)
        return [*(("result", result) for result in results), ("done", None)]
    except Exception as error:
        sys.stdout.flush()
        return [explain(error)]
