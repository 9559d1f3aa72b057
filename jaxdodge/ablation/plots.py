"""The figures of a report, as SVG; everything drawn comes from the rows of `measures`."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from jaxdodge.ablation.measures import Row

# The same numbers give the same file; text stays text.
STYLE: Any = {
    "svg.hashsalt": "jaxdodge",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
WIDTH = 7.5
# Colours that the colour-blind can tell apart (Okabe and Ito 2008); then other strokes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STROKES = ("-", "--", ":", "-.")


def learning_curves(rows: list[Row], across: str) -> str:
    """Mean return of each cell over `steps` or `seconds`, with its interval."""
    return _lines(
        rows, across, {"steps": "environment steps of a seed", "seconds": "seconds"}[across], "return"
    )


def profiles(rows: list[Row]) -> str:
    """Of each cell, the share of runs above each return."""
    return _lines(rows, "threshold", "return", "share of seeds and conditions above it")


def pair_means(rows: list[Row]) -> str:
    """Means of two factors' levels: a line per level of the first, over those of the second."""
    return _lines([row | {"over": row["other"]} for row in rows], "over", "", "score", marker="o")


def intervals(rows: list[Row], label: str) -> str:
    """A dot and its interval for each row, the first on top."""

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            axes.plot([row["low"], row["high"]], [place, place], color=COLOURS[0], linewidth=3, alpha=0.4)
            axes.plot(row["value"], place, "o", color=COLOURS[0])
        axes.set_yticks(range(len(rows)), [row["of"] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(label)

    return _svg(draw, 0.8 + 0.24 * len(rows))


def _lines(rows: list[Row], across: str, x_label: str, y_label: str, marker: str | None = None) -> str:
    names = list(dict.fromkeys(row["of"] for row in rows))

    def draw(axes: Axes) -> None:
        for number, name in enumerate(names):
            own = [row for row in rows if row["of"] == name]
            x = [row[across] for row in own]
            colour = COLOURS[number % len(COLOURS)]
            stroke = STROKES[number // len(COLOURS) % len(STROKES)]
            axes.plot(x, [row["value"] for row in own], stroke, marker=marker, color=colour, label=name)
            low, high = [row["low"] for row in own], [row["high"] for row in own]
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=1 if len(names) < 7 else 2)

    return _svg(draw, 3.6 + 0.17 * (len(names) if len(names) < 7 else -(-len(names) // 2)))


def _svg(draw: Callable[[Axes], None], height: float) -> str:
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    return file.getvalue()
