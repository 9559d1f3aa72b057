"""The process of a study: what ends it, and that only the cell at hand pays for that."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from ablation_jobs import by_name, tasks

from jaxdodge.ablation.local import run_locally


def news(folder: Path, *names: str, interrupted=lambda: None) -> list[tuple]:
    computed = run_locally(tasks(folder, *names), interrupted, folder / "log", folder / "compiled", by_name)
    return [(each.task, each.kind, each.content) for each in computed]


def test_what_ends_a_process_costs_one_cell_and_the_others_share_one(tmp_path):
    names = ("one", "killed", "two", "refused", "three", "diverged", "broken", "broken by memory", "four")
    found = news(tmp_path, *names)
    ends = {
        names[task]: (kind, content)
        for task, kind, content in found
        if kind not in ("begun", "progress", "result")
    }
    assert ends == {
        "one": ("done", None),
        "killed": ("failed", "its process was ended by SIGKILL; the system does that when memory runs out"),
        "two": ("done", None),
        "refused": ("refused", "gamma: invalid value 7"),
        "three": ("done", None),
        "diverged": ("diverged", "value is not finite"),
        "broken": ("failed", "RuntimeError: no luck"),
        "broken by memory": ("failed", "out of memory: RESOURCE_EXHAUSTED: 5 GB"),
        "four": ("done", None),
    }
    assert [task for task, kind, _ in found if kind == "begun"] == [*range(len(names))]
    assert (0, "progress", {"done": 0.5}) in found
    results = [content for _, kind, content in found if kind == "result"]
    assert [name for name, _ in results] == ["key0.0-0", "key2.0-0", "key4.0-0", "key8.0-0"]
    process = {name: (tmp_path / name).read_text() for name in names}
    assert process["two"] == process["refused"] == process["three"] == process["diverged"]
    assert len({process[name] for name in ("one", "two", "four")}) == 3
    # A traceback is for who looks for it.
    assert "RuntimeError: no" in (tmp_path / "log").read_text()


def test_an_interruption_lets_the_cell_at_hand_save_and_begins_no_other(tmp_path):
    asked = []

    def interrupted():
        asked.append(time.monotonic())
        return "Ctrl-C" if (tmp_path / "waits").exists() else None

    found = news(tmp_path, "waits", "never", interrupted=interrupted)
    assert [kind for _, kind, _ in found] == ["begun", "progress"]
    assert not (tmp_path / "never").exists()


CHILD = """
import sys
from pathlib import Path
from ablation_jobs import by_name, tasks
from jaxdodge.ablation.local import run_locally

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    list(run_locally(tasks(folder, "waits"), lambda: None, folder / "log", folder / "compiled", by_name))
"""


def content(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def runs(process: int) -> bool:
    """Whether a process has not ended; whoever is to reap it may be slow."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_process_ends_with_a_study_that_is_killed(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[1]}"}
    study = subprocess.Popen([sys.executable, tmp_path / "child.py", tmp_path], env=environment)
    try:
        deadline = time.monotonic() + 60
        # The file is there before its line is.
        while not (said := content(tmp_path / "waits")).endswith("\n"):
            assert study.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        worker = int(said)
    finally:
        study.send_signal(signal.SIGKILL)
        study.wait()
    deadline = time.monotonic() + 30
    while runs(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)
