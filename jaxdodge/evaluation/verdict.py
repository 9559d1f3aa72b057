"""Whether two sets of episodes differ by as much as matters, or how many episodes would tell."""

import math

import numpy as np

from jaxdodge.evaluation.episodes import Episodes
from jaxdodge.evaluation.statistics import wilson_interval

SIGNIFICANT = 0.05
# What matters: this share of a full episode's return, and this share of the episodes survived.
PRACTICAL = 0.02
# Standard errors of an interval of 95 %, and those at which a difference is found in 80 %.
WIDTH, FOUND = 1.96, 2.8
PERMUTATIONS = 2000


def verdicts(real: Episodes, simulated: Episodes, full_return: float) -> list[str]:
    """A line about the return and one about the survival rate.

    A difference is one if it is both significant (5 %) and larger than what matters: 2 % of a full
    episode's return, 2 points of survival. The return is judged by a permutation test of the means,
    survival by Fisher's exact test of the counts; and the interval of 95 % must exclude 0.

    Args:
        real, simulated: played with the same policy.
        full_return: about what a full episode returns.
    """
    ours, theirs = (np.asarray(each.returns, np.float64) for each in (real, simulated))
    n, m = len(ours), len(theirs)
    difference = float(ours.mean() - theirs.mean())
    # Few episodes on the server do not tell how far they spread.
    deviation = float(max(ours.std(), theirs.std()))
    error = WIDTH * deviation * math.sqrt(1 / n + 1 / m)
    interval = difference, difference - error, difference + error
    probability = permutation_test(ours, theirs)
    lines = [_verdict("return", interval, probability, PRACTICAL * full_return, deviation, "")]
    one, other = int(np.sum(real.survived)), int(np.sum(simulated.survived))
    (low, high), (other_low, other_high) = wilson_interval(one, n), wilson_interval(other, m)
    rate, other_rate = one / n, other / m
    difference = rate - other_rate
    # Newcombe 1998, "Interval estimation for the difference", method 10.
    interval = (
        100 * difference,
        100 * (difference - math.hypot(rate - low, other_high - other_rate)),
        100 * (difference + math.hypot(high - rate, other_rate - other_low)),
    )
    deviation = math.sqrt(max(other_rate * (1 - other_rate), PRACTICAL * (1 - PRACTICAL)))
    probability = fisher_exact(one, n, other, m)
    return [*lines, _verdict("survival", interval, probability, 100 * PRACTICAL, 100 * deviation, " points")]


def permutation_test(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> float:
    """Probability of means at least so far apart if both are of one distribution, two-sided."""
    pool, count = np.concatenate([ours, theirs]), len(ours)
    chosen = np.random.default_rng(seed).random((PERMUTATIONS, len(pool))).argsort(axis=1)[:, :count]
    sums = pool[chosen].sum(axis=1)
    differences = sums / count - (pool.sum() - sums) / len(theirs)
    apart = np.abs(differences) >= abs(ours.mean() - theirs.mean()) * (1 - 1e-9)
    return float((1 + apart.sum()) / (1 + PERMUTATIONS))


def fisher_exact(successes: int, trials: int, other_successes: int, other_trials: int) -> float:
    """Probability of counts at least as unlikely as these if both rates are equal, two-sided.

    Source: Fisher 1935, the hypergeometric distribution given both totals.
    """
    total, all_trials = successes + other_successes, trials + other_trials
    ways = [
        math.comb(trials, k) * math.comb(other_trials, total - k)
        for k in range(max(0, total - other_trials), min(trials, total) + 1)
    ]
    ours = math.comb(trials, successes) * math.comb(other_trials, other_successes)
    return sum(each for each in ways if each <= ours) / math.comb(all_trials, total)


def _verdict(
    name: str,
    interval: tuple[float, float, float],
    probability: float,
    matters: float,
    deviation: float,
    unit: str,
) -> str:
    """A line about a difference with the ends of its interval, of episodes with a deviation."""
    difference, low, high = interval
    measured = f"{difference:+.1f}{unit} [{low:+.1f}, {high:+.1f}]"
    significant = probability < SIGNIFICANT and not low <= 0 <= high
    if significant and abs(difference) > matters:
        return f"{name}: DIFFERENT, {measured} on the server"
    bound = max(abs(low), abs(high))
    if bound <= matters:
        return f"{name}: agrees within {bound:.1f}{unit}"
    episodes = math.ceil((FOUND * deviation / matters) ** 2)
    return f"{name}: no difference found, {measured}; {episodes:,} episodes would tell {matters:.0f}{unit}"
