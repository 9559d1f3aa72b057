"""All numbers of a report as rows of one table, the source of the plots too. NumPy only."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxdodge.ablation.study import Study
from jaxdodge.ablation.study_run import CellResult
from jaxdodge.evaluation.statistics import (
    interquartile_mean_of_all,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)

# A row: the figure it belongs to, its subject (`of`), and a value with its 95 % interval.
COLUMNS = ("figure", "of", "other", "seed", "steps", "seconds", "threshold", "value", "low", "high")
Row = dict[str, Any]
THRESHOLDS = 41
# Nine tenths of the return of an episode of the real game without a hit.
GOAL = 900.0
COSTS = (
    "training_seconds",
    "evaluation_seconds",
    "memory_bytes",
    "environment_steps",
    "updates",
    "game_frames",
    "images_drawn",
)


def result_rows(study: Study, cells: list[CellResult]) -> list[Row]:
    """The rows of a study's finished cells.

    The score of a seed is its mean return over all conditions. `figure` is one of:

    learning_curve, survival_curve    means of a cell over seeds in training, at `steps`, `seconds`
    steps_to_goal, seconds_to_goal    of a cell: median over seeds until an evaluation in training
                      has a mean return of `threshold`; no value if that never came
    seed_steps_to_goal, seed_seconds_to_goal    the same of a cell and seed
    seed_return, seed_survival    of a cell and seed in the condition `other`
    condition_return  of a cell in the condition `other`: IQM over seeds
    condition_survival    of a cell in the condition `other`: mean over seeds
    score, survival   of a cell: IQM of the score over seeds, mean survival rate
    profile           share of a cell's seeds and conditions with a return above `threshold`
    improvement       probability that a seed of a cell scores higher than a seed of `other`
    main_effect       of a factor's level: IQM of the score over all cells with it
    pair_mean         of two levels: mean score of the cells with both
    interaction       of two levels: `pair_mean` beyond the sum of the effects of both
    cost              of a cell: the amount of `other`

    Main effects, pair means and interactions exist only if the cells are a full grid, and only of
    factors of which they have several levels.

    Args:
        study: with the factors and conditions.
        cells: of the study; those with an error are skipped.
    """
    done = [cell for cell in cells if cell.error is None]
    if not done:
        return []
    rows = [row for cell in done for row in _cell_rows(cell)]
    every = np.concatenate([cell.evaluations("mean").ravel() for cell in done])
    thresholds = np.linspace(every.min(), every.max(), THRESHOLDS)
    for cell in done:
        returns = cell.evaluations("mean")
        shares = performance_profile(returns, thresholds)
        low, high = profile_interval(returns, thresholds)
        rows += [
            _row("profile", cell.cell.name, shares[i], low[i], high[i], threshold=float(thresholds[i]))
            for i in range(THRESHOLDS)
        ]
    scores = np.stack([cell.scores for cell in done], axis=1)
    for ours, theirs in itertools.permutations(range(len(done)), 2):
        names = done[ours].cell.name, done[theirs].cell.name
        pair = scores[:, [ours, theirs]]
        rows.append(_interval_row("improvement", names[0], pair, _improvement, other=names[1]))
    return [*rows, *_effects(study, done, scores)]


def _improvement(drawn: np.ndarray) -> np.ndarray:
    return probability_of_improvement(drawn[..., :1], drawn[..., 1:])


def profile_interval(returns: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval ends (thresholds,) of a profile, from returns (seeds, conditions).

    The bootstrap draws a seed with all its conditions, because it is one policy.
    """
    seeds = np.arange(len(returns))[:, None]
    return stratified_interval(
        seeds, lambda drawn: performance_profile(returns[drawn[..., 0].astype(int)], thresholds)
    )


def _median(drawn: np.ndarray) -> np.ndarray:
    return np.median(drawn[..., 0], axis=-1)


def _mean_of_all(drawn: np.ndarray) -> np.ndarray:
    return drawn.mean(axis=(-2, -1))


def _row(figure: str, of: str, value: Any, low: Any = None, high: Any = None, **others: Any) -> Row:
    numbers = {"value": value, "low": low, "high": high}
    numbers = {name: None if number is None else float(number) for name, number in numbers.items()}
    return dict.fromkeys(COLUMNS) | {"figure": figure, "of": of} | numbers | others


def _interval_row(
    figure: str, of: str, scores: np.ndarray, statistic: Callable[[np.ndarray], Any], **others: Any
) -> Row:
    """A statistic of scores (runs, tasks) with its interval."""
    low, high = stratified_interval(scores, statistic)
    return _row(figure, of, statistic(scores), low, high, **others)


def _cell_rows(cell: CellResult) -> Iterator[Row]:
    name = cell.cell.name
    for figure, what, statistic in (
        ("return", "mean", interquartile_mean_of_all),
        ("survival", "survival", _mean_of_all),
    ):
        values = cell.evaluations(what)
        for column, condition in enumerate(cell.conditions):
            for seed, value in zip(cell.seeds, values[:, column], strict=True):
                yield _row(f"seed_{figure}", name, value, other=condition, seed=seed)
            yield _interval_row(f"condition_{figure}", name, values[:, [column]], statistic, other=condition)
        overall = "score" if figure == "return" else figure
        yield _interval_row(overall, name, values.mean(axis=1, keepdims=True), statistic)
    yield from _curve(cell)
    yield from _times_to_goal(cell)
    for cost in COSTS:
        # Groups of seeds are trained one after another, so their memory does not add up.
        total = max if cost == "memory_bytes" else sum
        yield _row("cost", name, total(one["cost"][cost] for one in cell.results), other=cost)


def _times_to_goal(cell: CellResult) -> Iterator[Row]:
    at_goal = [next((point for point in curve if point["return"] >= GOAL), None) for curve in cell.curves]
    for what, name in (("steps", "timesteps"), ("seconds", "seconds")):
        times = np.array([point[name] if point else math.inf for point in at_goal])
        for seed, time in zip(cell.seeds, times, strict=True):
            yield finite(_row(f"seed_{what}_to_goal", cell.cell.name, time, seed=seed, threshold=GOAL))
        # An interval that ends between two infinite medians ends at nan.
        with np.errstate(invalid="ignore"):
            row = _interval_row(f"{what}_to_goal", cell.cell.name, times[:, None], _median, threshold=GOAL)
        yield finite(row)


def _curve(cell: CellResult) -> Iterator[Row]:
    curves = cell.curves
    # With a budget in minutes, seeds can differ in the number of evaluations.
    points = min(map(len, curves))
    if not points:
        return
    for figure, name in (("learning_curve", "return"), ("survival_curve", "survival")):
        values = np.array([[point[name] for point in curve[:points]] for curve in curves])
        low, high = stratified_interval(values, lambda drawn: drawn.mean(axis=-2))
        for i in range(points):
            yield _row(
                figure,
                cell.cell.name,
                values[:, i].mean(),
                low[i],
                high[i],
                steps=curves[0][i]["timesteps"],
                seconds=float(np.mean([curve[i]["seconds"] for curve in curves])),
            )


def _effects(study: Study, done: list[CellResult], scores: np.ndarray) -> Iterator[Row]:
    """Effects of levels and of pairs, from scores (seeds, cells).

    Nothing unless the cells are a full grid: otherwise the cells of two levels differ in other
    factors too.
    """

    def cells_with(**levels: str) -> np.ndarray:
        """Indices of the cells with these levels."""
        return np.array([i for i, each in enumerate(done) if levels.items() <= each.cell.levels.items()], int)

    present = {
        factor: [level for level in levels if cells_with(**{factor: level}).size]
        for factor, levels in study.factors.items()
    }
    if len(done) < math.prod(map(len, present.values())):
        return
    present = {factor: levels for factor, levels in present.items() if len(levels) > 1}
    for factor, levels in present.items():
        for level in levels:
            cells = scores[:, cells_with(**{factor: level})]
            of = f"{factor} {level}"
            yield _interval_row("main_effect", of, cells, interquartile_mean_of_all, other=factor)
    for (one, ones), (two, twos) in itertools.combinations(present.items(), 2):
        for level, other in itertools.product(ones, twos):
            names = f"{one} {level}", f"{two} {other}"
            both = cells_with(**{one: level, two: other})
            yield _interval_row("pair_mean", names[0], scores[:, both], _mean_of_all, other=names[1])
            weights = np.full(len(done), 1 / len(done))
            weights[both] += 1 / both.size
            for cells in (cells_with(**{one: level}), cells_with(**{two: other})):
                weights[cells] -= 1 / cells.size
            yield _interval_row(
                "interaction",
                names[0],
                scores,
                lambda drawn, weights=weights: drawn.mean(axis=-2) @ weights,  # type: ignore[misc]
                other=names[1],
            )


def finite(value: Any) -> Any:
    """A JSON value in which numbers that are not finite are null."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
