"""What evaluations print: a row of figures each, and matrices.

Rows are printed one by one as soon as they are played. rich's tables need all rows for their
layout, so they are not used.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxdodge.evaluation.statistics import bootstrap_interval

FIGURES = f"{'return ± std':>14}  {'IQM [95% interval]':>23}  survival [95% interval]  responses"


def line(cells: dict[str, Any], widths: dict[str, int], figures: str) -> str:
    """A row of the table: the cells that have a column, then the figures."""
    return "  ".join([*(str(cells[name]).rjust(width) for name, width in widths.items()), figures])


def column_widths(columns: list[str], rows: list[dict[str, Any]]) -> dict[str, int]:
    """The width of each column: that of its longest cell, or of its name."""
    return {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in columns}


def figures(summary: dict[str, float]) -> str:
    """The figures of an evaluation, below FIGURES."""
    returns = f"{summary['mean']:6.1f} ± {summary['std']:5.1f}"
    iqm = f"{summary['iqm']:6.1f} [{summary['iqm_low']:6.1f}, {summary['iqm_high']:6.1f}]"
    ends = f"[{summary['survival_low']:6.1%}, {summary['survival_high']:6.1%}]"
    return f"{returns}  {iqm}  {summary['survival']:6.1%} {ends}  {summary['length']:9.1f}"


def over_seeds(summaries: list[dict[str, float]]) -> str:
    """Means over the seeds, with their bootstrap intervals."""
    parts = []
    for title, name, form in (
        ("return", "mean", ".1f"),
        ("IQM", "iqm", ".1f"),
        ("survival", "survival", ".1%"),
    ):
        values = [summary[name] for summary in summaries]
        low, high = bootstrap_interval(values)
        parts.append(f"{title} {np.mean(values):{form}} [{low:{form}}, {high:{form}}]")
    return f"mean of {len(summaries)} seeds: " + "  ".join(parts)


def matrix(title: str, axes: dict[str, list[Any]], cells: list[str]) -> Iterator[str]:
    """Lines of a table, the first axis down and the second across; `cells` in row-major order."""
    (down, rows), (across, columns) = ((name, list(map(str, values))) for name, values in axes.items())
    left = max(map(len, rows))
    width = max(map(len, [*columns, *cells])) + 2
    yield f"\n{title}, {down} down, {across} across"
    yield " " * left + "".join(column.rjust(width) for column in columns)
    for index, row in enumerate(rows):
        values = cells[index * len(columns) :][: len(columns)]
        yield row.rjust(left) + "".join(value.rjust(width) for value in values)


def seconds_text(seconds: float) -> str:
    """A duration for people: 4.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"
