"""The figures of a report as SVG, drawn from the rows of `result_rows`."""

import html
import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxdodge.ablation.result_rows import Row
from jaxdodge.figures import new_figure, without_backend
from jaxdodge.files import error_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The salt makes the file reproducible; with fonttype "none", text stays text.
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
# Colours that are safe for colour-blind readers (Okabe and Ito 2008), combined with line styles.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")
# Up to so many, the points of a line are shown.
MOST_POINTS = 40


def learning_curves(rows: list[Row], across: str, of: str = "return") -> str:
    """Mean return, or `of`, of each cell over `steps` or `seconds`, with its interval."""
    labels = {"steps": "environment steps of a seed", "seconds": "seconds"}
    return _lines(rows, across, labels[across], of)


def profiles(rows: list[Row]) -> str:
    """The share of each cell's runs above each return."""
    return _lines(rows, "threshold", "return", "share of seeds and conditions above it")


def pair_means(rows: list[Row]) -> str:
    """Means of two factors: a line per level of the first, over the levels of the second."""
    return _lines([row | {"over": row["other"]} for row in rows], "over", "", "score", marker="o")


def intervals(rows: list[Row], label: str) -> str:
    """A dot and its interval for each row, the first one on top."""

    def draw(axes: "Axes") -> None:
        for y, row in enumerate(rows):
            axes.plot([row["low"], row["high"]], [y, y], color=COLOURS[0], linewidth=3, alpha=0.4)
            axes.plot(row["value"], y, "o", color=COLOURS[0])
        axes.set_yticks(range(len(rows)), [row["of"] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(label)

    return _svg(draw, 0.8 + 0.24 * len(rows))


def _lines(rows: list[Row], across: str, x_label: str, y_label: str, marker: str | None = None) -> str:
    names = list(dict.fromkeys(row["of"] for row in rows))

    def draw(axes: "Axes") -> None:
        for number, name in enumerate(names):
            own = [row for row in rows if row["of"] == name]
            x = [row[across] for row in own]
            colour = COLOURS[number % len(COLOURS)]
            line_style = LINE_STYLES[number // len(COLOURS) % len(LINE_STYLES)]
            low, high = [row["low"] for row in own], [row["high"] for row in own]
            # Evaluations are points; a single one has no line and no band.
            point = marker or ("o" if len(own) <= MOST_POINTS else None)
            values = [row["value"] for row in own]
            axes.plot(x, values, line_style, marker=point, markersize=4, color=colour, label=name)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            if len(own) == 1:
                axes.plot([*x, *x], [*low, *high], color=colour, alpha=0.4, linewidth=3)
        axes.set(xlabel=x_label, ylabel=y_label)
        if across == "steps":
            axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=1 if len(names) < 7 else 2)

    return _svg(draw, 3.6 + 0.17 * (len(names) if len(names) < 7 else -(-len(names) // 2)))


def _svg(draw: Callable[["Axes"], None], height: float) -> str:
    """The figure; one that cannot be drawn says why, because the results do not depend on it."""
    try:
        return _drawn(draw, height)
    except Exception as error:  # matplotlib raises many kinds
        reason = f"not drawn ({error_line(error, 300)})"
        print(f"figure: {reason}", file=sys.stderr)
        text = f'<text y="1em">{html.escape(reason)}</text>'
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="540" height="24">{text}</svg>\n'


def _drawn(draw: Callable[["Axes"], None], height: float) -> str:
    with without_backend():
        import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = new_figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
