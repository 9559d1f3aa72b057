"""The dry run of cells that are finished; a real calibration is in test_ablate.py."""

import pytest
import yaml
from ablation_jobs import result

from jaxdodge.ablate import ablate
from jaxdodge.ablation import dry_run
from jaxdodge.ablation.result_store import ResultStore
from jaxdodge.ablation.study_file import read_study
from jaxdodge.ablation.study_run import cell_results

STUDY = {
    "question": "Which?",
    "factors": {"spawn_angle_degrees": [20, 30, 40]},
    "seeds": 2,
    "budget": {"total_timesteps": 30_000},
}
SECONDS = {"compile": 10.0, "epochs": 20.0, "evaluations": 5.0}
MEMORY = {"memory_bytes": 10**6, "seeds_per_program": 2}


@pytest.fixture
def calibrated(monkeypatch) -> list[str]:
    """Names of the calibrated cells; each takes 35 seconds."""
    names = []

    def calibrate(cells, cache):
        for cell in cells:
            names.append(cell.cell.name)
            quick = "quick" in names and len(names) > 3
            yield cell, MEMORY if quick else MEMORY | SECONDS

    monkeypatch.setattr(dry_run, "calibrate", calibrate)
    return names


def test_cells_that_were_not_calibrated_take_the_mean_time(tmp_path, calibrated, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    calibrated.extend(["quick", "quick"])
    assert ablate([f"{file}", "--dry-run", "--out", f"{tmp_path}"]) == 0
    *_, one, two, three, total, note = capsys.readouterr().out.splitlines()
    assert one.split()[2:] == ["1", "MB", "2", "10.0", "s", "20.0", "s", "5.0", "s"]
    assert two.split()[2:] == three.split()[2:] == ["~1", "MB", "2", "~10.0", "s", "~20.0", "s", "~5.0", "s"]
    assert total == "total, one cell after another: ~1 min 45 s"
    assert note.startswith("~: not calibrated; ")


def test_finished_cells_cost_nothing(tmp_path, calibrated, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    arguments = [f"{file}", "--dry-run", "--out", f"{tmp_path}"]
    assert ablate(arguments) == 0
    assert capsys.readouterr().out.endswith("total, one cell after another: 1 min 45 s\n")

    _, second, third = (cell.task for cell in cell_results(read_study(file), tmp_path))
    store = ResultStore(tmp_path / "cells")
    store.write(second.name, result(second))
    # Of this one a seed is missing.
    store.write(third.with_seeds(0, 1).name, result(third.with_seeds(0, 1)))
    calibrated.clear()
    assert ablate(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[4] == "spawn_angle_degrees 30  finished earlier"
    assert lines[-1] == "total, one cell after another: 1 min 10 s"
    assert calibrated == ["spawn_angle_degrees 20", "spawn_angle_degrees 40"]


def test_calibration_stops_when_the_time_is_over(monkeypatch):
    """The first task takes longer than the limit."""
    clock = [100.0]

    def estimate_task(task):
        clock[0] += dry_run.CALIBRATION_SECONDS + 1
        return "calibrated"

    monkeypatch.setattr(dry_run.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(dry_run, "estimate_task", estimate_task)
    monkeypatch.setattr(dry_run, "estimate_memory", lambda task: "memory")
    calibration = dry_run.Calibration()
    assert [[*calibration(None)] for _ in range(3)] == [["calibrated"], ["memory"], ["memory"]]
