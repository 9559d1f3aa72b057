"""The content of a report: tables, figures and conclusions, all from the rows of `result_rows`.

`templates/report.j2` puts them in order.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml

from jaxdodge.ablation import plots
from jaxdodge.ablation.conclusions import comparison, interval_text
from jaxdodge.ablation.result_rows import COSTS, GOAL, Row
from jaxdodge.ablation.study import Study
from jaxdodge.ablation.study_run import UNFINISHED, CellResult
from jaxdodge.ablation.tasks import code_version, configuration
from jaxdodge.evaluation.tables import seconds_text

# Largest number of cells for which the report has a table of all pairs; the CSV always has them.
MAX_PAIRED = 12
FEW_SEEDS = 10
METHOD = (
    "For each seed, the EMA of the policy at the end of training plays whole episodes deterministically; its "
    "score is the mean return over all evaluation conditions. IQM is the interquartile mean, the mean of the "
    "middle half. Intervals are 95 % percentile intervals of the stratified bootstrap over seeds. Profiles "
    "are distributions of run scores. In the probability of improvement, ties count half. These follow "
    "Agarwal et al. 2021 (arXiv 2108.13264), sections 4.1 to 4.3. A main effect is the IQM over all cells "
    "with a level. An interaction is the mean of the cells with two levels, minus the mean of all cells and "
    "minus each level's own deviation from it."
)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows with as many cells as the header; the first column names the row."""

    header: list[str]
    rows: list[list[str]]
    title: str = ""
    figure: str = ""
    """Name of the figure that shows the same numbers."""


class Picture(NamedTuple):
    """A small picture."""

    name: str
    png: str
    """In base64."""
    text: str


def report_content(study: Study, cells: list[CellResult], rows: list[Row]) -> dict[str, Any]:
    """The variables of `templates/report.j2`.

    Args:
        study: of the cells.
        cells: of the study.
        rows: of the cells without error, see `result_rows`.
    """
    content: dict[str, Any] = {
        "title": f"Study: {study.name}",
        "question": study.question,
        "failed": [
            f"{cell.cell.name}: {cell.error}" for cell in cells if cell.error not in (None, UNFINISHED)
        ],
        "cells": len(cells),
        "unfinished": sum(cell.error == UNFINISHED for cell in cells),
        "factors": study.factors,
        "seeds": study.seeds,
        "few_seeds": study.seeds < FEW_SEEDS,
        "minutes": study.minutes,
        "episodes": study.episodes,
        "max_paired": MAX_PAIRED,
        "method": METHOD,
        "code": code_version(),
        "figures": {},
    }
    if rows:
        content |= {
            "conclusions": _conclusions(study, rows),
            "scores": _scores(rows),
            "conditions": _conditions(study, rows),
            "improvements": _improvements(rows),
            "goal": f"{GOAL:.0f}",
            "goals": _goals(rows),
            "costs": _costs(rows),
            "pictures": _pictures([cell for cell in cells if cell.error is None]),
            "figures": _figures(rows),
        }
        effects = _of(rows, "main_effect")
        if len(study.factors) > 1 and effects:
            content["effects"] = Table(
                ["level", "IQM over all cells with this level"],
                [[row["of"], interval_text(row)] for row in effects],
            )
            content["figures"]["main_effects"] = plots.intervals(effects, "score, IQM")
            content["interactions"] = []
            varied = dict.fromkeys(row["other"] for row in effects)
            for number, pair in enumerate(itertools.combinations(varied, 2)):
                table, svg = _interaction(study, rows, *pair, f"pairs_{number}")
                content["interactions"].append(table)
                content["figures"][table.figure] = svg
    return content | _settings(study, cells)


def _of(rows: list[Row], figure: str) -> list[Row]:
    return [row for row in rows if row["figure"] == figure]


def _conclusions(study: Study, rows: list[Row]) -> list[str]:
    lines = comparison(_of(rows, "score"))
    for factor in study.factors:
        effects = [row for row in _of(rows, "main_effect") if row["other"] == factor]
        if len(study.factors) > 1 and len(effects) > 1:
            lines += [f"{factor}: {line}" for line in comparison(effects)]
    return lines


def _scores(rows: list[Row]) -> Table:
    by_seed: dict[str, dict[int, list[float]]] = {}
    for row in _of(rows, "seed_return"):
        by_seed.setdefault(row["of"], {}).setdefault(row["seed"], []).append(row["value"])
    return Table(
        ["cell", "IQM [95 % interval]", "survival [95 % interval]", "score of each seed"],
        [
            [
                score["of"],
                interval_text(score),
                interval_text(survival, ".1%"),
                " ".join(f"{sum(values) / len(values):.1f}" for values in by_seed[score["of"]].values()),
            ]
            for score, survival in zip(_of(rows, "score"), _of(rows, "survival"), strict=True)
        ],
    )


def _conditions(study: Study, rows: list[Row]) -> list[Table]:
    """Returns and survival in all conditions; nothing if there is only one condition."""
    if len(study.conditions) < 2:
        return []
    tables = []
    for figure, title, form in (
        ("condition_return", "Return: IQM over seeds [95 % interval]", ".0f"),
        ("condition_survival", "Survival: mean over seeds [95 % interval]", ".0%"),
    ):
        by_cell: dict[str, list[str]] = {}
        for row in _of(rows, figure):
            by_cell.setdefault(row["of"], []).append(interval_text(row, form))
        lines = [[name, *values] for name, values in by_cell.items()]
        tables.append(Table(["trained as, evaluated as", *study.conditions], lines, title))
    return tables


def _interaction(study: Study, rows: list[Row], one: str, two: str, figure: str) -> tuple[Table, str]:
    """The table and the figure of two factors."""
    first = {f"{one} {level}" for level in study.factors[one]}
    second = {f"{two} {level}" for level in study.factors[two]}

    def of_pair(figure: str) -> list[Row]:
        return [row for row in _of(rows, figure) if row["of"] in first and row["other"] in second]

    means = of_pair("pair_mean")
    lines = [
        [
            f"{mean['of']}, {mean['other']}",
            interval_text(mean),
            interval_text(interaction, "+.1f"),
            "includes 0" if interaction["low"] <= 0 <= interaction["high"] else "",
        ]
        for mean, interaction in zip(means, of_pair("interaction"), strict=True)
    ]
    title = f"Mean score of {one} and {two} together, with 95 % intervals."
    return Table(["levels", "mean", "interaction", ""], lines, title, figure), plots.pair_means(means)


def _improvements(rows: list[Row]) -> Table | None:
    pairs = {(row["of"], row["other"]): row for row in _of(rows, "improvement")}
    names = [row["of"] for row in _of(rows, "score")]
    if not pairs or len(names) > MAX_PAIRED:
        return None
    return Table(
        ["", *names],
        [
            [name, *("" if name == other else interval_text(pairs[name, other], ".2f") for other in names)]
            for name in names
        ],
    )


def _goals(rows: list[Row]) -> Table:
    reached: dict[str, list[bool]] = {}
    for row in _of(rows, "seed_steps_to_goal"):
        reached.setdefault(row["of"], []).append(row["value"] is not None)
    return Table(
        ["cell", "seeds that reached it", "environment steps, median", "wall time, median"],
        [
            [
                steps["of"],
                f"{sum(reached[steps['of']])} of {len(reached[steps['of']])}",
                _times(steps, "{:,.0f}".format),
                _times(seconds, seconds_text),
            ]
            for steps, seconds in zip(_of(rows, "steps_to_goal"), _of(rows, "seconds_to_goal"), strict=True)
        ],
    )


def _times(row: Row, text: Callable[[float], str]) -> str:
    """A median with its interval; each of them may never have come."""
    value, low, high = (
        "never" if row[name] is None else text(row[name]) for name in ("value", "low", "high")
    )
    return value if row["low"] is None else f"{value} [{low}, {high}]"


def _costs(rows: list[Row]) -> Table:
    costs = {(row["of"], row["other"]): row["value"] for row in _of(rows, "cost")}
    lines = []
    for name in dict.fromkeys(name for name, _ in costs):
        training, evaluation, memory, *counts = (costs[name, cost] for cost in COSTS)
        times = seconds_text(training), seconds_text(evaluation)
        lines.append([name, *times, f"{memory / 1e6:,.0f} MB", *(f"{count:,.0f}" for count in counts)])
    names = [cost.replace("_", " ") for cost in COSTS[3:]]
    return Table(["cell, all seeds", "training", "evaluation", "peak memory", *names], lines)


def _figures(rows: list[Row]) -> dict[str, str]:
    """SVG by name."""
    figures = {
        "scores": plots.intervals(_of(rows, "score"), "score, IQM"),
        "profiles": plots.profiles(_of(rows, "profile")),
    }
    curves = _of(rows, "learning_curve")
    if curves:
        figures["curves_by_steps"] = plots.learning_curves(curves, "steps")
        figures["curves_by_time"] = plots.learning_curves(curves, "seconds")
        survival = _of(rows, "survival_curve")
        figures["survival_by_steps"] = plots.learning_curves(survival, "steps", "survival rate")
    return figures


def _pictures(done: list[CellResult]) -> list[Picture]:
    """The same scene as the policies of each resolution and colour mode observe it."""
    pictures = {}
    for cell in done:
        game = cell.task and cell.task.game
        png = cell.results[0].get("sample_frame")
        if game and png:
            colour = "gray" if game.image_grayscale else "colour"
            text = f"{game.image_obs_width} x {game.image_obs_height}, {colour}"
            pictures[text] = Picture(f"sample_{text.replace(' ', '').replace(',', '_')}", png, text)
    return list(pictures.values())


def _settings(study: Study, cells: list[CellResult]) -> dict[str, Any]:
    """The configuration that cells share, what they differ in, the conditions, and the hardware."""
    tasks = [cell.task for cell in cells if cell.task]
    configurations = [configuration(task.game, task.train) for task in tasks]
    names = list(configurations[0]) if configurations else []
    different = [name for name in names if len({str(one[name]) for one in configurations}) > 1]
    common = {name: configurations[0][name] for name in names if name not in different}
    machines = {
        json.dumps(result["hardware"]) for cell in cells for result in cell.results if "hardware" in result
    }
    fields = {name: str(dict(fields)) for name, fields in study.conditions.items() if fields}
    return {
        "first_seed": tasks[0].train.seed if tasks else 0,
        "common": _yaml(common),
        "different": different
        and Table(
            ["cell", *different],
            [
                [task.cell, *(str(values[name]) for name in different)]
                for task, values in zip(tasks, configurations, strict=True)
            ],
        ),
        "condition_fields": fields
        and Table(["condition", "differs in"], [list(item) for item in fields.items()]),
        "hardware": [_yaml(json.loads(machine)) for machine in sorted(machines)],
    }


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False).strip()
