"""A small study with synthetic results, for the tests of reports."""

import csv
from pathlib import Path

import yaml
from ablation_jobs import result

from jaxdodge.ablation.report import write_report
from jaxdodge.ablation.result_rows import COSTS
from jaxdodge.ablation.result_store import ResultStore
from jaxdodge.ablation.study import Study
from jaxdodge.ablation.study_file import read_study
from jaxdodge.ablation.study_run import CellResult, cell_results, load

STUDY = {
    "question": "Which <b>is</b> it?",
    "base": {"observation_mode": "topdown", "image_obs_width": 32, "image_obs_height": 32},
    "factors": {
        "frame_stack": [1, 2],
        "colour": {"gray": {"image_grayscale": True}, "colour": {"image_grayscale": False}},
    },
    "seeds": 4,
    "budget": {"total_timesteps": 30_000},
    "evaluate": {"conditions": {"as trained": None, "fast & slow": {"fps": 30}}},
}
# One pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def write_synthetic(folder: Path) -> None:
    """A report of synthetic results: 100 per frame, 10 for colour, plus the seed."""
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    study = read_study(file)
    cells = cell_results(study, folder)
    store = ResultStore(folder / "cells")
    for cell in cells:
        content = result(cell.task)
        level = 100 * cell.task.game.frame_stack + 10 * (not cell.task.game.image_grayscale)
        for evaluations in content["evaluations"].values():
            evaluations[:] = [{"mean": float(level + seed), "survival": seed / 10} for seed in range(4)]
        content["sample_frame"] = PNG
        content["cost"] = dict.fromkeys(COSTS, 5)
        content["hardware"] = {"cpu": "a <fast> one"}
        store.write(cell.task.name, content)
    load(cells, store)
    write_report(study, cells, folder)


def synthetic(folder: Path) -> tuple[Study, list[CellResult]]:
    """The study of `folder`, with its results."""
    study = read_study(folder / "study.yaml")
    cells = cell_results(study, folder)
    load(cells, ResultStore(folder / "cells"))
    return study, cells


def csv_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))
