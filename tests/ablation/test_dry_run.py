"""The dry run of cells that are finished; whole commands are in test_ablate.py."""

import dataclasses

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


@pytest.fixture
def task(tmp_path):
    """A task of two seeds."""
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    return cell_results(read_study(file), tmp_path)[1].task


def test_finished_cells_cost_nothing_and_scale_the_others(task, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dry_run, "estimate_memory", lambda task: (10**6, 1))
    monkeypatch.setattr(dry_run, "estimate_seconds", lambda task, groups=1: (10.0 * groups, 5.0))
    arguments = [f"{tmp_path / 'study.yaml'}", "--dry-run", "--out", f"{tmp_path}"]
    assert ablate(arguments) == 0
    # Two groups of one seed each; the cells share a program.
    *_, one, two, three, total, note = capsys.readouterr().out.splitlines()
    assert one.split()[2:] == ["~1", "MB", "1", "~1", "min", "00", "s", "~5.0", "s"]
    assert two.split()[2:] == three.split()[2:] == ["~1", "MB", "1", "~20.0", "s", "~5.0", "s"]
    assert (total, note) == ("total, one cell after another: ~1 min 55 s", dry_run.NOTE)

    finished = result(task)
    finished["cost"]["training_seconds"] = 3 * (dry_run.COMPILING + 10)
    ResultStore(tmp_path / "cells").write(task.name, finished)
    assert ablate(arguments) == 0
    *_, one, two, three, total, note = capsys.readouterr().out.splitlines()
    assert two == "spawn_angle_degrees 30  finished earlier"
    assert three.split()[2:] == ["~1", "MB", "1", "~1", "min", "00", "s", "~15.0", "s"]
    assert note.endswith("; times scaled by those of 1 finished cells")


def test_an_estimate_grows_with_updates_networks_images_and_groups(task):
    def seconds(groups: int = 1, game: dict | None = None, minutes: float | None = None, **train: object):
        changed = dataclasses.replace(
            task,
            game=dataclasses.replace(task.game, **game or {}),
            train=dataclasses.replace(task.train, total_timesteps=10**6, **train),
            minutes=minutes,
        )
        return dry_run.estimate_seconds(changed, groups)

    training, evaluation = seconds()
    for larger in (seconds(gradient_steps=32), seconds(net_arch=(256, 256)), seconds(batch_size=1024)):
        assert larger[0] > training
        assert larger[1] == evaluation
    assert seconds(game={"observation_mode": "topdown"})[0] > 10 * training
    assert seconds(3, minutes=2.0)[0] == 360
