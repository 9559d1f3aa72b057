"""The worker process of a study: whatever ends it, only the current cell is affected."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from ablation_jobs import by_name, tasks

from jaxdodge.ablation.local_executor import run_locally


def events(folder: Path, *names: str, interrupted=lambda: None) -> list[tuple]:
    computed = run_locally(tasks(folder, *names), interrupted, folder / "log", folder / "compiled", by_name)
    return [(each.task, each.kind, each.content) for each in computed]


def test_a_lost_worker_affects_one_cell_and_the_others_share_a_worker(tmp_path):
    names = ("one", "killed", "two", "refused", "three", "diverged", "broken", "broken by memory", "four")
    found = events(tmp_path, *names)
    ends = {
        names[task]: (kind, content)
        for task, kind, content in found
        if kind not in ("started", "progress", "result")
    }
    assert ends == {
        "one": ("done", None),
        "killed": (
            "failed",
            "worker process killed by SIGKILL; the system kills processes when memory runs out",
        ),
        "two": ("done", None),
        "refused": ("invalid", "gamma: invalid value 7"),
        "three": ("done", None),
        "diverged": ("diverged", "value is not finite"),
        "broken": ("failed", "RuntimeError: no luck"),
        "broken by memory": ("failed", "out of memory: RESOURCE_EXHAUSTED: 5 GB"),
        "four": ("done", None),
    }
    assert [task for task, kind, _ in found if kind == "started"] == [*range(len(names))]
    assert (0, "progress", {"done": 0.5}) in found
    results = [content for _, kind, content in found if kind == "result"]
    assert [name for name, _ in results] == ["key0.0-0", "key2.0-0", "key4.0-0", "key8.0-0"]
    process = {name: (tmp_path / name).read_text() for name in names}
    assert process["two"] == process["refused"] == process["three"] == process["diverged"]
    assert len({process[name] for name in ("one", "two", "four")}) == 3
    # The log has the traceback.
    assert "RuntimeError: no" in (tmp_path / "log").read_text()


def test_an_interruption_lets_the_current_cell_save_and_starts_no_other(tmp_path):
    def interrupted():
        return "Ctrl-C" if (tmp_path / "waits").exists() else None

    found = events(tmp_path, "waits", "never", interrupted=interrupted)
    assert [kind for _, kind, _ in found] == ["started", "progress"]
    assert not (tmp_path / "never").exists()


CHILD = """
import sys
from pathlib import Path
from ablation_jobs import by_name, tasks
from jaxdodge.ablation.local_executor import run_locally

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    list(run_locally(tasks(folder, "waits"), lambda: None, folder / "log", folder / "compiled", by_name))
"""


def content(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def runs(process: int) -> bool:
    """Whether a process runs; an ended one may remain as a zombie for a while."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_worker_ends_when_the_study_is_killed(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3]))}
    study = subprocess.Popen([sys.executable, tmp_path / "child.py", tmp_path], env=environment)
    try:
        deadline = time.monotonic() + 60
        # The file exists before its line is written.
        while not (line := content(tmp_path / "waits")).endswith("\n"):
            assert study.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        worker = int(line)
    finally:
        study.send_signal(signal.SIGKILL)
        study.wait()
    deadline = time.monotonic() + 30
    while runs(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)
