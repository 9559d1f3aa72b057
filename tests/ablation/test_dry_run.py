"""What a dry run says of cells that are there already; one that really calibrates is in test_ablate."""

import pytest
import yaml
from ablation_jobs import result

from jaxdodge.ablate import ablate
from jaxdodge.ablation import calibration
from jaxdodge.ablation.cells import Store
from jaxdodge.ablation.running import outcomes_of
from jaxdodge.ablation.study_file import read_study

STUDY = {
    "question": "Which?",
    "factors": {"spawn_angle_degrees": [20, 30, 40]},
    "seeds": 2,
    "budget": {"total_timesteps": 1000},
}
FOUND = {"memory_bytes": 10**6, "seeds_per_program": 2, "compile": 10.0, "epochs": 20.0, "evaluations": 5.0}


@pytest.fixture
def calibrated(monkeypatch) -> list[str]:
    """Names of the cells that were calibrated, which all take 35 seconds."""
    names = []

    def calibrate(outcomes, compiled):
        for outcome in outcomes:
            names.append(outcome.cell.name)
            yield outcome, FOUND

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    return names


def test_cells_that_are_there_already_cost_nothing(tmp_path, calibrated, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    arguments = [f"{file}", "--dry-run", "--out", f"{tmp_path}"]
    assert ablate(arguments) == 0
    assert capsys.readouterr().out.endswith("in all, one after the other: 1 min 45 s\n")

    _, second, third = (outcome.task for outcome in outcomes_of(read_study(file), tmp_path))
    store = Store(tmp_path / "cells")
    store.write(second.name, result(second))
    # Of this one a seed is missing.
    store.write(third.of_seeds(0, 1).name, result(third.of_seeds(0, 1)))
    calibrated.clear()
    assert ablate(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[4] == "spawn_angle_degrees 30  there already"
    assert lines[-1] == "in all, one after the other: 1 min 10 s"
    assert calibrated == ["spawn_angle_degrees 20", "spawn_angle_degrees 40"]
