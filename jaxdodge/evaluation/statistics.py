"""Statistics of episodes and runs, with their confidence intervals. NumPy only.

Source of the interquartile mean (IQM) and its bootstrap interval: Agarwal et al. 2021, "Deep
Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv 2108.13264).

`scipy.stats` has both too, and the tests compare with it. It is not used here: importing it takes
longer than a short evaluation, its bootstrap takes no single value, and its percentiles differ from
ours in the last bit, which would change figures that are already published.
"""

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
TAILS = [(1 - CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2]
# Values in one block of resamples: 8 MB.
BLOCK_VALUES = 2**20


def interquartile_mean(values: Any, axis: int = -1) -> Any:
    """Mean of the middle half: the lowest and the highest quarter, both rounded down, are left out.

    Outliers move it less than the mean, and it needs fewer episodes than the median.

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
    """95 % interval of a statistic by the percentile bootstrap (Efron 1979; section 4.1 there).

    With few values, such as the seeds of a run, it is too narrow.

    Args:
        values: (n,), n >= 1.
        statistic: from (resamples, n) and `axis=-1` to (resamples,).
        resamples: number of resamples.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        Its low and its high end.
    """
    values = np.asarray(values, np.float64)
    results = [
        statistic(values[indices], axis=-1)
        for indices in _resampled_indices(values.size, values.shape, resamples, seed)
    ]
    low, high = np.quantile(np.concatenate(results), TAILS)
    return float(low), float(high)


def _resampled_indices(high: int, shape: tuple[int, ...], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Random indices below `high` in blocks of (up to BLOCK_VALUES values, *shape)."""
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK_VALUES // math.prod(shape))
    for start in range(0, resamples, block):
        yield generator.integers(high, size=(min(block, resamples - start), *shape))


def mean_and_interval(values: Any) -> dict[str, float]:
    """The mean of values, with its 95 % interval by bootstrap as `mean_low` and `mean_high`."""
    low, high = bootstrap_interval(values)
    return {"mean": float(np.mean(values)), "mean_low": low, "mean_high": high}


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a binomial's rate: Wilson's score interval, without continuity correction.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial
    Proportion", equation 4. It stays within [0, 1], and has a width at 0 and 1 too.

    Args:
        successes: 0 <= successes <= trials.
        trials: at least 1.

    Returns:
        Its low and its high end.
    """
    # The same formula for both ends, so that rounding cannot exclude a rate of exactly 0 or 1.
    return _wilson_low(successes, trials), 1 - _wilson_low(trials - successes, trials)


def _wilson_low(successes: int, trials: int) -> float:
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    root = math.sqrt(z * z + 4 * successes * (trials - successes) / trials)
    return (2 * successes + z * z - z * root) / (2 * (trials + z * z))


def histogram(values: Any, bins: int = 10, width: int = 40) -> list[str]:
    """A histogram as text: a line per bin with its ends, its count and a bar.

    Args:
        values: (n,), n >= 1.
        bins: number of bins of equal width; one bin if all values are equal.
        width: characters of the longest bar; every bin with values has at least one.
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
    """95 % interval of a statistic over runs of several tasks, by the stratified bootstrap.

    The runs of each task are resampled separately (Agarwal et al. 2021, section 4.1). With
    few runs it is too narrow; with one it has no width.

    Args:
        scores: (runs, tasks).
        statistic: from (resamples, runs, tasks) to (resamples, ...).
        resamples: number of resamples.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        Low and high ends, of the statistic's shape.
    """
    scores = np.asarray(scores, np.float64)
    results = [
        statistic(np.take_along_axis(scores[None], indices, axis=1))
        for indices in _resampled_indices(len(scores), scores.shape, resamples, seed)
    ]
    low, high = np.quantile(np.concatenate(results), TAILS, axis=0)
    return low, high


def interquartile_mean_of_all(scores: np.ndarray) -> np.ndarray:
    """The interquartile mean over runs and tasks together: (..., runs, tasks) -> (...)."""
    return interquartile_mean(scores.reshape(*scores.shape[:-2], -1))


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Probability that a run of ours beats one of theirs, averaged over tasks; ties count half.

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

    Source: Agarwal et al. 2021, section 4.2, equation 3 (run-score distribution).

    Args:
        scores: (..., runs, tasks).
        thresholds: (thresholds,).

    Returns:
        (..., thresholds).
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    return np.stack([(flat > threshold).mean(axis=-1) for threshold in thresholds], axis=-1)
