"""Studies on a Ray cluster: the events with a simulated Ray, and real clusters in the slow tier."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from ablation_jobs import by_name, tasks

from jaxdodge.ablation.local_executor import run_locally
from jaxdodge.ablation.ray_executor import RETRIES, run_on_ray
from jaxdodge.fields import ConfigError


@pytest.fixture
def two_workers(monkeypatch):
    """A machine of two CPUs; afterwards no process is left."""
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"CPU": 2}))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, Path(__file__).parents[1:3])))
    before = descendants(os.getpid())
    yield
    assert_gone(descendants(os.getpid()) - before)


def descendants(process: int) -> set[psutil.Process]:
    """Without Python's resource tracker, which lives as long as the process."""
    found = psutil.Process(process).children(recursive=True)
    return {each for each in found if "resource_tracker" not in " ".join(each.cmdline())}


def assert_gone(processes: set[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


def on_ray(folder: Path, *names: str, address: str = "local", interrupted=lambda: None) -> list[tuple]:
    """Events, sorted by task and kind, because their order is random; ends after five minutes."""
    deadline = time.monotonic() + 300

    def late() -> str | None:
        return interrupted() or ("late" if time.monotonic() > deadline else None)

    computed = run_on_ray(tasks(folder, *names), late, address, job=by_name)
    return sorted((each.task, each.kind, each.content) for each in computed)


def times(folder: Path, name: str) -> int:
    """How often a task was started."""
    path = folder / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_events_equal_those_of_local_tasks_and_lost_tasks_are_retried(tmp_path):
    names = ("one", "refused", "diverged", "broken", "broken by memory", "two")
    (tmp_path / "local").mkdir()
    locally = run_locally(
        tasks(tmp_path / "local", *names), lambda: None, tmp_path / "log", tmp_path / "compiled", by_name
    )
    found = on_ray(tmp_path / "ray", *names, "killed", "killed once")
    reported = [each for each in found if each[1] != "progress"]
    expected = sorted((each.task, each.kind, each.content) for each in locally if each.kind != "progress")
    assert [each for each in reported if each[0] < len(names)] == expected
    (killed,) = [each for each in reported if each[0] == 6 and each[1] != "started"]
    assert killed[1] == "failed"
    assert killed[2].startswith(f"lost {RETRIES + 1} times: WorkerCrashedError: ")
    assert [kind for task, kind, _ in reported if task == 7] == ["done", "result", "started"]
    counts = {name: times(tmp_path / "ray", name) for name in (*names, "killed", "killed once")}
    assert counts == dict.fromkeys(names, 1) | {"killed": RETRIES + 1, "killed once": 2}


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_an_interruption_ends_all_tasks(tmp_path):
    """The interruption comes when both tasks have reported progress."""
    found: list[tuple] = []
    deadline = time.monotonic() + 300

    def interrupted() -> str | None:
        assert time.monotonic() < deadline
        return "Ctrl-C" if sum(kind == "progress" for _, kind, _ in found) == 2 else None

    for each in run_on_ray(tasks(tmp_path, "waits", "waits too", "never"), interrupted, "local", job=by_name):
        found.append((each.task, each.kind, each.content))
    assert sorted(found) == [
        *((0, "progress", {"done": 0.5}), (0, "started", None)),
        *((1, "progress", {"done": 0.5}), (1, "started", None)),
    ]
    assert not times(tmp_path, "never")


DRIVER = """
import sys
from pathlib import Path
from ablation_jobs import by_name, tasks
from jaxdodge.ablation.ray_executor import run_on_ray

list(run_on_ray(tasks(Path(sys.argv[1]), "waits"), lambda: None, "local", job=by_name))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_a_killed_study_leaves_no_process(tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path])
    try:
        wait_until(lambda: times(tmp_path, "waits") > 0)
        started = descendants(driver.pid)
    finally:
        driver.kill()
        driver.wait()
    # Ray's agents end a minute after its control service.
    agents = {each for each in started if "Agent" in each.name()}
    assert_gone(started - agents)
    for agent in agents:
        agent.kill()


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_a_lost_machine_affects_only_its_current_tasks(tmp_path, monkeypatch):
    """Kills all processes of one of two machines."""
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_OVERRIDE_RESOURCES")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80_000_000})
    killed = []

    def kill_when_it_waits() -> None:
        if times(tmp_path, "waits once") and times(tmp_path, "two") and not killed:
            machine = psutil.Process(int((tmp_path / "waits once").read_text())).parent()
            assert machine.name() == "raylet"
            killed.extend([machine, *machine.children()])
            for process in killed:
                process.kill()

    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        found = on_ray(
            tmp_path,
            *("one", "waits once", "two", "three"),
            address=cluster.address,
            interrupted=kill_when_it_waits,
        )
    finally:
        cluster.shutdown()
    assert [task for task, kind, _ in found if kind == "done"] == [0, 1, 2, 3]
    assert {name: times(tmp_path, name) for name in ("one", "waits once", "two", "three")} == {
        "one": 1,
        "waits once": 2,
        "two": 1,
        "three": 1,
    }


UNREACHABLE = {
    "127.0.0.1:1": "ray: '127.0.0.1:1': cannot connect ([Errno ",
    "127.0.0.1:99999": "ray: '127.0.0.1:99999': cannot connect (",
}
UNSUITABLE = [
    ({"address": "no address"}, "ray: 'no address': "),
    ({"address": "local", "cpus": 3}, "ray: no machine of the cluster has 0 GPUs and 3 CPUs for a cell"),
    ({"address": "local", "gpus": 0.5}, "ray: no machine of the cluster has 0.5 GPUs and 1 CPUs for a cell"),
]


def error_of(folder: Path, **arguments: object) -> str:
    with pytest.raises(ConfigError) as raised:
        list(run_on_ray(tasks(folder, "one"), lambda: None, **arguments))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(("address", "message"), UNREACHABLE.items())
def test_an_unreachable_cluster_is_reported_in_one_line(tmp_path, monkeypatch, address, message):
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    assert error_of(tmp_path, address=address).startswith(message)


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize(("arguments", "message"), UNSUITABLE)
def test_an_unsuitable_cluster_is_reported_in_one_line(tmp_path, arguments, message):
    assert error_of(tmp_path, **arguments).startswith(message)


class FakeRay:
    """Ray's functions that the executor uses, on one machine of two CPUs, synchronously."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    def __init__(self) -> None:
        self.running = False

    def init(self, **_: object) -> None:
        self.running = True

    def shutdown(self) -> None:
        self.running = False

    def cluster_resources(self) -> dict:
        return {"CPU": 2}

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": {"CPU": 2}}]

    def remote(self, **_: object) -> Callable:
        return self._decorate

    def _decorate(self, target: type | Callable) -> object:
        if not isinstance(target, type):
            return SimpleNamespace(remote=lambda *arguments: Reference(lambda: target(*arguments)))

        def create() -> object:
            actor = target()
            return SimpleNamespace(
                write=SimpleNamespace(remote=lambda *arguments: actor.write(*arguments)),
                read=SimpleNamespace(remote=lambda: Reference(actor.read)),
            )

        return SimpleNamespace(remote=create)

    def wait(self, references: list, timeout: float) -> tuple[list, list]:
        return references[:1], references[1:]

    def get(self, reference: "Reference", timeout: float | None = None) -> object:
        return reference.compute()


class Reference:
    def __init__(self, compute: Callable) -> None:
        self.compute = compute


def test_events_equal_those_of_local_tasks(tmp_path, monkeypatch):
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    names = ("one", "refused", "two")
    (tmp_path / "local").mkdir()
    folders = tmp_path / "log", tmp_path / "compiled"
    locally = run_locally(tasks(tmp_path / "local", *names), lambda: None, *folders, by_name)
    expected = sorted((each.task, each.kind, each.content) for each in locally if each.kind != "progress")
    assert [each for each in on_ray(tmp_path / "ray", *names) if each[1] != "progress"] == expected
    assert not ray.running
    for arguments, message in UNSUITABLE[1:]:
        assert error_of(tmp_path, **arguments).startswith(message)


def test_without_ray_a_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"^ray: not installed; run pip install 'jaxdodge\[ray\]'$"):
        list(run_on_ray(tasks(tmp_path, "one"), lambda: None, "local"))
