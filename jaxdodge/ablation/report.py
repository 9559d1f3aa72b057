"""The report of a study: report.html, report.md, results.csv and results.json."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from jaxdodge.ablation.cells import code_version, configuration, finite
from jaxdodge.ablation.document import pictures_of, to_html, to_markdown
from jaxdodge.ablation.measures import COLUMNS, measures
from jaxdodge.ablation.running import Outcome
from jaxdodge.ablation.sections import sections
from jaxdodge.ablation.study import Study
from jaxdodge.files import atomic_write


def write_report(study: Study, outcomes: list[Outcome], folder: Path) -> None:
    """Write the report's files; a file is there whole, or as it was before.

    Args:
        study: what was asked.
        outcomes: of its cells.
        folder: where they go.
    """
    rows = measures(study, outcomes)
    parts = sections(study, outcomes, rows)
    title = f"Study: {study.name}"
    (folder / "figures").mkdir(exist_ok=True)
    for name, content in pictures_of(parts).items():
        (folder / "figures" / name).write_bytes(content)
    atomic_write(folder / "results.json", json.dumps(finite(_json(study, outcomes)), indent=1) + "\n")
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    atomic_write(folder / "results.csv", text.getvalue())
    atomic_write(folder / "report.md", to_markdown(title, parts))
    atomic_write(folder / "report.html", to_html(title, parts))


def _json(study: Study, outcomes: list[Outcome]) -> dict[str, Any]:
    """Everything that is known; times are in `cost` and in the curves' `seconds`, nowhere else."""
    cells = []
    for outcome in outcomes:
        cell: dict[str, Any] = {"name": outcome.cell.name, "levels": outcome.cell.levels}
        cell["error"] = outcome.error
        if outcome.task:
            cell["key"] = outcome.task.key
            cell["configuration"] = configuration(outcome.task.game, outcome.task.train)
        if outcome.error is None:
            cell["seeds"] = outcome.seeds
            cell["scores"] = outcome.score.tolist()
            found = [outcome.of_seed(seed) for seed in outcome.seeds]
            cell["evaluations"] = {
                name: [result["evaluations"][key][place] for result, place in found]
                for name, key in outcome.conditions.items()
            }
            cell["curves"] = [result["curves"][place] for result, place in found]
            cell["cost"] = [result["cost"] for result in outcome.results]
            cell["hardware"] = [result["hardware"] for result in outcome.results]
        cells.append(cell)
    return {
        "study": study.name,
        "question": study.question,
        "factors": study.factors,
        "conditions": study.conditions,
        "episodes": study.episodes,
        "minutes": study.minutes,
        "reproducible": study.minutes is None,
        "code": code_version(),
        "cells": cells,
    }
