"""Verdicts on two sets of episodes: of practical size, and rarely wrong where nothing differs."""

import numpy as np
import pytest
from scipy import stats

from jaxdodge.evaluation.episodes import Episodes
from jaxdodge.evaluation.verdict import fisher_exact, permutation_test, verdicts


def episodes(returns, survived=None) -> Episodes:
    returns = np.asarray(returns, float)
    return Episodes(
        returns, np.full(len(returns), 1001), np.asarray(returns > 900 if survived is None else survived)
    )


def whole(count: int, deaths: int = 0, mean: float = 1006.0) -> Episodes:
    return episodes([*np.linspace(mean - 1, mean + 1, count - deaths), *np.linspace(100, 800, deaths)])


@pytest.mark.parametrize(
    ("real", "simulated", "expected"),
    [
        # Significant, and of no importance.
        (
            whole(13, 0, 1005.8),
            whole(512, 0, 1006.3),
            ["return: agrees within 0.", "survival: no difference"],
        ),
        # One death in five where 98 % survive happens in one of eleven.
        (whole(5, 1), whole(512, 10), ["return: no difference found", "survival: no difference found"]),
        (whole(40, 12), whole(512, 10), ["return: DIFFERENT", "survival: DIFFERENT"]),
        (whole(2000, 20), whole(2000, 22), ["return: agrees within", "survival: agrees within 0."]),
    ],
)
def test_a_difference_is_one_if_it_is_significant_and_matters(real, simulated, expected):
    lines = verdicts(real, simulated, 1000.0)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True)), lines


def test_where_nothing_differs_few_are_called_different():
    """Of few episodes whose returns spread widely, as those of scripted policies do."""
    generator = np.random.default_rng(0)
    pool = episodes(generator.exponential(150, 512), np.zeros(512, bool))
    found = [
        verdicts(episodes(generator.exponential(150, n), np.zeros(n, bool)), pool, 1000.0)[0]
        for n in (2, 5, 20)
        for _ in range(6)
    ]
    assert sum("DIFFERENT" in line for line in found) <= 3


@pytest.mark.parametrize(
    "counts", [(4, 5, 502, 512), (37, 40, 503, 512), (0, 3, 0, 9), (3, 3, 0, 9), (5, 9, 2, 7)]
)
def test_exact_test_of_counts_is_that_of_scipy(counts):
    one, n, other, m = counts
    expected = stats.fisher_exact([[one, n - one], [other, m - other]]).pvalue
    assert fisher_exact(*counts) == pytest.approx(expected)


def test_permutation_test_is_that_of_scipy():
    generator = np.random.default_rng(1)
    ours, theirs = generator.normal(0, 1, 6), generator.normal(1, 1, 40)
    expected = stats.ttest_ind(ours, theirs).pvalue
    assert permutation_test(ours, theirs) == pytest.approx(expected, abs=0.03)
