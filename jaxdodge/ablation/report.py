"""The report of a study: report.html, report.md, results.csv and results.json."""

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import jinja2

from jaxdodge.ablation.report_content import report_content
from jaxdodge.ablation.result_rows import COLUMNS, finite, result_rows
from jaxdodge.ablation.study import Study
from jaxdodge.ablation.study_run import CellResult
from jaxdodge.ablation.tasks import code_version, configuration
from jaxdodge.files import atomic_write


def write_report(study: Study, cells: list[CellResult], folder: Path) -> None:
    """Write the files of the report; after a crash each is complete, or as it was before.

    Args:
        study: of the cells.
        cells: with their results.
        folder: for the files.
    """
    rows = result_rows(study, cells)
    atomic_write(
        folder / "results.json", json.dumps(finite(_results(study, cells)), indent=1, allow_nan=False) + "\n"
    )
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    atomic_write(folder / "results.csv", text.getvalue())
    # The results come first: they are complete whatever happens to the report.
    content = report_content(study, cells, rows)
    (folder / "figures").mkdir(exist_ok=True)
    for name, svg in content["figures"].items():
        (folder / "figures" / f"{name}.svg").write_text(svg, encoding="utf-8")
    for picture in content.get("pictures", []):
        (folder / "figures" / f"{picture.name}.png").write_bytes(base64.b64decode(picture.png))
    atomic_write(folder / "report.md", render("markdown.j2", content))
    atomic_write(folder / "report.html", render("html.j2", content))


def render(output_format: str, content: dict[str, Any]) -> str:
    """The report as text.

    Args:
        output_format: name of the format's template.
        content: see `report_content`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxdodge.ablation"),
        autoescape=output_format == "html.j2",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["base64"] = lambda text: base64.b64encode(text.encode()).decode()
    optional = dict.fromkeys(("scores", "effects"))
    text = environment.get_template("report.j2").render(optional | content, format=output_format)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _results(study: Study, cells: list[CellResult]) -> dict[str, Any]:
    """All results. Times are only in `cost` and in the `seconds` of curves."""
    contents = []
    for cell in cells:
        content: dict[str, Any] = {"name": cell.cell.name, "levels": cell.cell.levels}
        content["error"] = cell.error
        if cell.task:
            content["key"] = cell.task.key
            content["configuration"] = configuration(cell.task.game, cell.task.train)
        if cell.error is None:
            content["seeds"] = cell.seeds
            content["scores"] = cell.scores.tolist()
            found = [cell.of_seed(seed) for seed in cell.seeds]
            content["evaluations"] = {
                name: [result["evaluations"][key][index] for result, index in found]
                for name, key in cell.conditions.items()
            }
            content["curves"] = cell.curves
            content["cost"] = [result["cost"] for result in cell.results]
            content["hardware"] = [result["hardware"] for result in cell.results]
        contents.append(content)
    return {
        "study": study.name,
        "question": study.question,
        "factors": study.factors,
        "conditions": study.conditions,
        "episodes": study.episodes,
        "minutes": study.minutes,
        "reproducible": study.minutes is None,
        "code": code_version(),
        "cells": contents,
    }
