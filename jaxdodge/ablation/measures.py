"""All numbers of a report, as the rows of one table: what is plotted is taken from them. NumPy only."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxdodge.ablation.running import Outcome
from jaxdodge.ablation.study import Study
from jaxdodge.evaluation.statistics import (
    interquartile_mean_of_all,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)

# A row: the figure it belongs to, what it is of, and a value with the ends of its 95 % interval.
COLUMNS = ("figure", "of", "other", "seed", "steps", "seconds", "threshold", "value", "low", "high")
Row = dict[str, Any]
THRESHOLDS = 41
COSTS = (
    "training_seconds",
    "evaluation_seconds",
    "memory_bytes",
    "environment_steps",
    "updates",
    "game_frames",
    "images_drawn",
)


def measures(study: Study, outcomes: list[Outcome]) -> list[Row]:
    """The rows of a study's finished cells.

    A cell's score is, of each seed, the mean return over all its evaluations. `figure` is one of:

    learning_curve    of a cell: mean over seeds of the return while training, at `steps` and `seconds`
    seed_return, seed_survival    of a cell and seed, in the condition `other`
    condition_return, condition_survival    of a cell in the condition `other`: IQM, and mean, over seeds
    score, survival   of a cell: IQM of the score over seeds, mean of the survival rate
    profile           of a cell: share of seeds and conditions with a return above `threshold`
    improvement       probability that a seed of a cell scores higher than one of `other`
    main_effect       of a factor's level: IQM of the score over all cells that have it; where they are a grid
    pair_mean, interaction    of two levels: mean of the cells with both; what of it the two levels' own
                      effects do not add up to; where the cells are a grid
    cost              of a cell: what it took of `other`

    Args:
        study: whose factors and conditions.
        outcomes: of its cells; those with an error are left out.
    """
    done = [outcome for outcome in outcomes if outcome.error is None]
    if not done:
        return []
    rows = [row for outcome in done for row in _of_cell(outcome)]
    every = np.concatenate([outcome.figure("mean").ravel() for outcome in done])
    thresholds = np.linspace(every.min(), every.max(), THRESHOLDS)
    for outcome in done:
        returns = outcome.figure("mean")
        shares = performance_profile(returns, thresholds)
        low, high = profile_interval(returns, thresholds)
        rows += [
            _row("profile", outcome.cell.name, shares[i], low[i], high[i], threshold=float(thresholds[i]))
            for i in range(THRESHOLDS)
        ]
    scores = np.stack([outcome.score for outcome in done], axis=1)
    for ours, theirs in itertools.permutations(range(len(done)), 2):
        names = done[ours].cell.name, done[theirs].cell.name
        both = scores[:, [ours, theirs]]
        row = _measured("improvement", names[0], both, _improvement, other=names[1])
        rows.append(row)
    rows += _effects(study, done, scores)
    return rows


def _improvement(drawn: np.ndarray) -> np.ndarray:
    return probability_of_improvement(drawn[..., :1], drawn[..., 1:])


def profile_interval(returns: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (thresholds,) of the interval of a profile, from returns (seeds, conditions).

    A seed is one policy in all conditions, so it is drawn with all of them.
    """
    seeds = np.arange(len(returns))[:, None]
    return stratified_interval(
        seeds, lambda drawn: performance_profile(returns[drawn[..., 0].astype(int)], thresholds)
    )


def _mean_of_all(drawn: np.ndarray) -> np.ndarray:
    return drawn.mean(axis=(-2, -1))


def _row(figure: str, of: str, value: Any, low: Any = None, high: Any = None, **others: Any) -> Row:
    numbers = {"value": value, "low": low, "high": high}
    numbers = {name: None if number is None else float(number) for name, number in numbers.items()}
    return dict.fromkeys(COLUMNS) | {"figure": figure, "of": of} | numbers | others


def _measured(
    figure: str, of: str, scores: np.ndarray, statistic: Callable[[np.ndarray], Any], **others: Any
) -> Row:
    """A statistic of (runs, tasks), with its interval."""
    low, high = stratified_interval(scores, statistic)
    return _row(figure, of, statistic(scores), low, high, **others)


def _of_cell(outcome: Outcome) -> Iterator[Row]:
    name = outcome.cell.name
    for figure, what, statistic in (
        ("return", "mean", interquartile_mean_of_all),
        ("survival", "survival", _mean_of_all),
    ):
        values = outcome.figure(what)
        for column, condition in enumerate(outcome.conditions):
            for seed, value in zip(outcome.seeds, values[:, column], strict=True):
                yield _row(f"seed_{figure}", name, value, other=condition, seed=seed)
            yield _measured(f"condition_{figure}", name, values[:, [column]], statistic, other=condition)
        total = "score" if figure == "return" else figure
        yield _measured(total, name, values.mean(axis=1, keepdims=True), statistic)
    yield from _curve(outcome)
    for cost in COSTS:
        # Seeds that did not fit together were trained one after the other: memory does not add up.
        in_all = max if cost == "memory_bytes" else sum
        yield _row("cost", name, in_all(one["cost"][cost] for one in outcome.results), other=cost)


def _curve(outcome: Outcome) -> Iterator[Row]:
    curves = []
    for seed in outcome.seeds:
        result, place = outcome.of_seed(seed)
        curves.append(result["curves"][place])
    # A budget in minutes can end after one evaluation more or less.
    points = min(map(len, curves))
    if not points:
        return
    returns = np.array([[point["return"] for point in curve[:points]] for curve in curves])
    low, high = stratified_interval(returns, lambda drawn: drawn.mean(axis=-2))
    for i in range(points):
        yield _row(
            "learning_curve",
            outcome.cell.name,
            returns[:, i].mean(),
            low[i],
            high[i],
            steps=curves[0][i]["timesteps"],
            seconds=float(np.mean([curve[i]["seconds"] for curve in curves])),
        )


def _effects(study: Study, done: list[Outcome], scores: np.ndarray) -> Iterator[Row]:
    """Effects of levels and of pairs, from scores (seeds, cells).

    Only where the cells are all combinations of their levels: else a level's cells differ from another's in
    other factors too.
    """

    def having(**levels: str) -> np.ndarray:
        """Indices of the cells with these levels."""
        return np.array([i for i, each in enumerate(done) if levels.items() <= each.cell.levels.items()], int)

    present = {
        factor: [level for level in levels if having(**{factor: level}).size]
        for factor, levels in study.factors.items()
    }
    if len(done) < math.prod(map(len, present.values())):
        return
    for factor, levels in present.items():
        for level in levels:
            cells = scores[:, having(**{factor: level})]
            of = f"{factor} {level}"
            yield _measured("main_effect", of, cells, interquartile_mean_of_all, other=factor)
    for (one, ones), (two, twos) in itertools.combinations(present.items(), 2):
        for level, other in itertools.product(ones, twos):
            names = f"{one} {level}", f"{two} {other}"
            both = having(**{one: level, two: other})
            yield _measured("pair_mean", names[0], scores[:, both], _mean_of_all, other=names[1])
            weights = np.full(len(done), 1 / len(done))
            weights[both] += 1 / both.size
            for cells in (having(**{one: level}), having(**{two: other})):
                weights[cells] -= 1 / cells.size
            yield _measured(
                "interaction",
                names[0],
                scores,
                lambda drawn, weights=weights: drawn.mean(axis=-2) @ weights,  # type: ignore[misc]
                other=names[1],
            )
