"""A run whose files cannot be written says so, and one process at a time writes them."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TINY
from tiny_runs import lines as _lines
from tiny_runs import only_run as _only_run
from tiny_runs import summary as _summary

from jaxdodge import train
from jaxdodge.cli import guarded
from jaxdodge.fields import ConfigError
from jaxdodge.runs import logs
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.folder import Run, split


def test_a_full_disk_is_said_and_training_goes_on_to_an_end_that_says_so(command, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logs.Events, "write", full)
    monkeypatch.setattr(Run, "save_policy", full)
    monkeypatch.setattr(logs, "plot", full)
    monkeypatch.setattr(Run, "save_summary", full)
    monkeypatch.setattr(Checkpoints, "save", full)
    assert command() == 1
    run = _only_run()
    out, err = capsys.readouterr()
    assert err == "not saved; last checkpoint: none was saved\n"
    lines = [line for line in out.splitlines() if "No space left" in line]
    assert f"{run}/logs/metrics.jsonl: not written (No space left on device); training goes on" in lines
    assert f"{run}/models/best: not written (No space left on device); training goes on" in lines
    assert f"{run}/models/final: not written (No space left on device)" in lines
    assert lines[-1] == f"{run}/summary.json: not written (No space left on device)"
    # Of the two files of figures, the other one is written.
    assert [line["timesteps"] for line in _lines(run)] == list(range(0, 4097, 512))


def test_what_is_stopped_but_not_saved_says_so_and_can_go_on(command, monkeypatch, capsys):
    save = Checkpoints.save

    def full_after_the_first(self: Checkpoints, step: int, *arguments: Any) -> None:
        if self.steps():
            raise OSError(f"{step}: not saved (disk full)")
        save(self, step, *arguments)

    monkeypatch.setattr(Checkpoints, "save", full_after_the_first)
    reasons = iter([None, None, "Ctrl-C"])
    monkeypatch.setattr(train.Interrupt, "reason", lambda _: next(reasons))
    assert command("--save-freq", 512) == 1
    run = _only_run()
    out, err = capsys.readouterr()
    assert err == f"not saved; last checkpoint: {run}/models/checkpoints/000000000512\n"
    assert [line for line in out.splitlines() if "disk full" in line] == [
        "1024: not saved (disk full); training goes on",
        "1536: not saved (disk full)",
    ]
    assert _summary(run)["stopped"] == "Ctrl-C"
    monkeypatch.setattr(train.Interrupt, "reason", lambda _: None)
    assert guarded(train.train, ["--resume", str(run)]) == 1
    assert _summary(run)["stopped"] == "not saved"
    assert not Run.open(run).finished()
    monkeypatch.setattr(Checkpoints, "save", save)
    assert guarded(train.train, ["--resume", str(run)]) == 0
    assert Run.open(run).finished()


def test_a_run_that_a_process_trains_in_is_refused_and_not_taken_by_auto(command, monkeypatch, capsys):
    game, config = split({**train.DEFAULTS, **TINY})
    run = Run.create(Path("results"), "tiny", game, config)
    code = "import sys; from pathlib import Path; from jaxdodge.runs.folder import Run\n"
    code += "with Run(Path(sys.argv[1])).locked(): print('locked', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, run.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    assert other.stdout.readline() == "locked\n"
    assert guarded(train.train, ["--resume", str(run.folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{run.folder}: another process trains in it; expected a run that has stopped"
    assert Run.newest(Path("results"), "tiny", game, config) is None
    other.kill()
    other.communicate()
    found = Run.newest(Path("results"), "tiny", game, config)
    assert found
    assert found.folder == run.folder

    def look(*_: object) -> str:
        with pytest.raises(ConfigError, match="another process trains in it"):
            run.check_unlocked()
        return "looked"

    # While it trains, the command itself has the lock.
    monkeypatch.setattr(train.Interrupt, "reason", look)
    assert command("--resume", "auto") == 143
    assert _summary(run.folder)["stopped"] == "looked"
    run.check_unlocked()
