"""Studies on a Ray cluster: real processes of Ray, some of them killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from ablation_jobs import by_name, tasks
from ray.cluster_utils import Cluster

from jaxdodge.ablation.cluster import RETRIES, run_on_ray
from jaxdodge.ablation.local import run_locally
from jaxdodge.fields import ConfigError


@pytest.fixture(autouse=True)
def two_workers_and_nothing_left(monkeypatch):
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"CPU": 2}))
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[1]}")
    before = descendants(os.getpid())
    yield
    assert_gone(descendants(os.getpid()) - before)


def descendants(process: int) -> set[psutil.Process]:
    """Without Python's own, which is one for the whole life of a process."""
    found = psutil.Process(process).children(recursive=True)
    return {each for each in found if "resource_tracker" not in " ".join(each.cmdline())}


def assert_gone(processes: set[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


def on_ray(folder: Path, *names: str, address: str = "local", interrupted=lambda: None) -> list[tuple]:
    """News, sorted by task and kind, because what comes first is chance; after minutes, what there is."""
    deadline = time.monotonic() + 300

    def late() -> str | None:
        return interrupted() or ("late" if time.monotonic() > deadline else None)

    computed = run_on_ray(tasks(folder, *names), late, address, job=by_name)
    return sorted((each.task, each.kind, each.content) for each in computed)


def times(folder: Path, name: str) -> int:
    """How often a task was begun."""
    path = folder / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_same_comes_of_tasks_as_locally_and_what_kills_its_process_is_tried_a_few_times(tmp_path):
    names = ("one", "refused", "diverged", "broken", "broken by memory", "two")
    (tmp_path / "local").mkdir()
    locally = run_locally(
        tasks(tmp_path / "local", *names), lambda: None, tmp_path / "log", tmp_path / "compiled", by_name
    )
    found = on_ray(tmp_path / "ray", *names, "killed", "killed once")
    told = [each for each in found if each[1] != "progress"]
    expected = sorted((each.task, each.kind, each.content) for each in locally if each.kind != "progress")
    assert [each for each in told if each[0] < len(names)] == expected
    (killed,) = [each for each in told if each[0] == 6 and each[1] != "begun"]
    assert killed[1] == "failed"
    assert killed[2].startswith(f"lost {RETRIES + 1} times: WorkerCrashedError: ")
    assert [kind for task, kind, _ in told if task == 7] == ["begun", "done", "result"]
    counts = {name: times(tmp_path / "ray", name) for name in (*names, "killed", "killed once")}
    assert counts == dict.fromkeys(names, 1) | {"killed": RETRIES + 1, "killed once": 2}


def test_an_interruption_ends_all(tmp_path):
    """When both are under way, as their progress tells."""
    found: list[tuple] = []
    deadline = time.monotonic() + 300

    def interrupted() -> str | None:
        assert time.monotonic() < deadline
        return "Ctrl-C" if sum(kind == "progress" for _, kind, _ in found) == 2 else None

    for each in run_on_ray(tasks(tmp_path, "waits", "waits too", "never"), interrupted, "local", job=by_name):
        found.append((each.task, each.kind, each.content))
    assert sorted(found) == [
        *((0, "begun", None), (0, "progress", {"done": 0.5})),
        *((1, "begun", None), (1, "progress", {"done": 0.5})),
    ]
    assert not times(tmp_path, "never")


DRIVER = """
import sys
from pathlib import Path
from ablation_jobs import by_name, tasks
from jaxdodge.ablation.cluster import run_on_ray

list(run_on_ray(tasks(Path(sys.argv[1]), "waits"), lambda: None, "local", job=by_name))
"""


def test_a_study_that_is_killed_leaves_no_process(tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path])
    try:
        wait_until(lambda: times(tmp_path, "waits") > 0)
        started = descendants(driver.pid)
    finally:
        driver.kill()
        driver.wait()
    # Ray's agents wait a minute for its control service, which is gone, before they end too.
    agents = {each for each in started if "Agent" in each.name()}
    assert_gone(started - agents)
    for agent in agents:
        agent.kill()


def test_a_machine_that_is_lost_costs_only_what_it_had_at_hand(tmp_path, monkeypatch):
    """Of two machines, which here are Ray's processes, all of the one with a task that waits are killed."""
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


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (
            {"address": "127.0.0.1:1"},
            "ray: '127.0.0.1:1': nothing answers there ([Errno ",
        ),
        ({"address": "127.0.0.1:99999"}, "ray: '127.0.0.1:99999': nothing answers there ("),
        ({"address": "no address"}, "ray: 'no address': "),
        ({"address": "local", "cpus": 3}, "ray: no machine of the cluster has 0 GPUs and 3 CPUs for a cell"),
        ({"address": "local", "gpus": 0.5}, "ray: no machine of the cluster has 0.5 GPUs and 1 CPUs for a "),
    ],
)
def test_a_cluster_that_does_not_do_is_refused_in_a_line(tmp_path, arguments, refusal):
    with pytest.raises(ConfigError) as refused:
        list(run_on_ray(tasks(tmp_path, "one"), lambda: None, **arguments))
    assert str(refused.value).startswith(refusal)
    assert "\n" not in str(refused.value)


def test_without_ray_a_line_says_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"^ray: not installed; pip install 'jaxdodge\[ray\]' brings it$"):
        list(run_on_ray(tasks(tmp_path, "one"), lambda: None, "local"))
