"""Figures of many episodes, and how sure they are. NumPy only.

Source of the interquartile mean and its bootstrap interval: Agarwal et al. 2021, "Deep Reinforcement Learning
at the Edge of the Statistical Precipice" (arXiv 2108.13264).
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
# Values of one block of resamples: 8 MB.
BLOCK_VALUES = 2**20


def interquartile_mean(values: Any, axis: int = -1) -> Any:
    """Mean of the middle half: the lowest and the highest quarter, both rounded down, are left out.

    It moves less with a few outliers than the mean, and needs fewer episodes than the median. The same as
    `scipy.stats.trim_mean(values, 0.25)`, which the paper's own code uses.

    Args:
        values: numbers, at least one along `axis`.
        axis: along which the mean is taken.
    """
    ordered = np.moveaxis(np.sort(np.asarray(values, np.float64), axis=axis), axis, -1)
    left_out = ordered.shape[-1] // 4
    return ordered[..., left_out : ordered.shape[-1] - left_out].mean(axis=-1)


def bootstrap_interval(
    values: Any, statistic: Callable[..., Any] = np.mean, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a statistic: the percentiles of what it is on resamples of the values.

    Each resample draws as many values as there are, with replacement (Efron 1979; the percentile bootstrap
    of the paper's section 4.1). With few values, such as the seeds of a run, it is too narrow.

    Args:
        values: (n,), n >= 1.
        statistic: from (resamples, n) and `axis=-1` to (resamples,).
        resamples: how many.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        Its low and its high end.
    """
    values = np.asarray(values, np.float64)
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK_VALUES // values.size)
    results = [
        statistic(values[generator.integers(values.size, size=(rows, values.size))], axis=-1)
        for rows in np.diff([*range(0, resamples, block), resamples])
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(results), [tail, 1 - tail])
    return float(low), float(high)


def mean_and_interval(values: Any) -> dict[str, float]:
    """The mean of values, with its 95 % interval by bootstrap as `mean_low` and `mean_high`."""
    low, high = bootstrap_interval(values)
    return {"mean": float(np.mean(values)), "mean_low": low, "mean_high": high}


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a binomial's rate: Wilson's score interval, without continuity correction.

    Wilson 1927, as recommended by Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial
    Proportion", equation 4. It stays within [0, 1], and has a width at 0 and 1 too.

    Args:
        successes: 0 <= successes <= trials.
        trials: at least 1.

    Returns:
        Its low and its high end.
    """
    # One formula for both ends, so that a rate of exactly 0 or 1 lies inside in spite of rounding.
    return _wilson_low(successes, trials), 1 - _wilson_low(trials - successes, trials)


def _wilson_low(successes: int, trials: int) -> float:
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    root = math.sqrt(z * z + 4 * successes * (trials - successes) / trials)
    return (2 * successes + z * z - z * root) / (2 * (trials + z * z))


def histogram(values: Any, bins: int = 10, width: int = 40) -> list[str]:
    """A histogram as text: a line per bin with its ends, its count and a bar.

    Args:
        values: (n,), n >= 1.
        bins: equal ones from the lowest to the highest value; a single one if all values are equal.
        width: characters of the longest bar; a bin that is not empty has at least one.
    """
    values = np.asarray(values, np.float64)
    low, high = values.min(), values.max()
    bins = bins if high > low else 1
    span = high - low if high > low else 1.0
    indices = np.minimum(((values - low) / span * bins).astype(np.int64), bins - 1)
    counts = np.bincount(indices, minlength=bins)
    edges = np.linspace(low, high, bins + 1)
    return [
        f"{start:8.1f} to {end:8.1f} {count:7}  {'#' * math.ceil(width * count / counts.max())}".rstrip()
        for start, end, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def stratified_interval(
    scores: Any, statistic: Callable[[np.ndarray], Any], resamples: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a statistic over runs of several tasks: percentiles of the stratified bootstrap.

    Source: Agarwal et al. 2021, section 4.1: the runs of each task are drawn with replacement, apart from
    those of the others. With few runs it is too narrow, and of a single one it has no width.

    Args:
        scores: (runs, tasks).
        statistic: from (resamples, runs, tasks) to (resamples, ...).
        resamples: how many.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        Low and high ends, of the statistic's shape.
    """
    scores = np.asarray(scores, np.float64)
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK_VALUES // scores.size)
    results = []
    for rows in np.diff([*range(0, resamples, block), resamples]):
        drawn = generator.integers(scores.shape[0], size=(rows, *scores.shape))
        results.append(statistic(np.take_along_axis(scores[None], drawn, axis=1)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(results), [tail, 1 - tail], axis=0)
    return low, high


def interquartile_mean_of_all(scores: np.ndarray) -> np.ndarray:
    """The interquartile mean over runs and tasks together: (..., runs, tasks) -> (...)."""
    return interquartile_mean(scores.reshape(*scores.shape[:-2], -1))


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """How likely a run of ours is better than one of theirs, on average over tasks; draws count half.

    Source: Agarwal et al. 2021, section 4.3.

    Args:
        ours: (..., runs, tasks).
        theirs: (..., other runs, tasks).

    Returns:
        (...), from 0 to 1.
    """
    difference = ours[..., :, None, :] - theirs[..., None, :, :]
    return (0.5 * (1 + np.sign(difference))).mean(axis=(-3, -2, -1))


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs and tasks whose score is above each threshold.

    Source: Agarwal et al. 2021, section 4.2, equation 3 (the distribution of run scores).

    Args:
        scores: (..., runs, tasks).
        thresholds: (thresholds,).

    Returns:
        (..., thresholds).
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    return np.stack([(flat > threshold).mean(axis=-1) for threshold in thresholds], axis=-1)
