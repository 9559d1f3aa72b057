"""Statistics of episodes: values known by hand or from the literature, and rules that hold for all inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from jaxdodge.agents.statistics import bootstrap_interval, histogram, interquartile_mean, wilson_interval

RETURNS = st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([7], 7),
        ([1, 2, 6], 3),  # a quarter of three is less than one
        ([100, 2, 4, -50], 3),
        ([8, 7, 6, 5, 4, 3, 2, 1], 4.5),
        ([0, 1, 2, 3, 4, 5, 6, 70, 800], 4),  # two of nine are left out on each side
    ],
)
def test_interquartile_mean_of_known_values(values, mean):
    assert interquartile_mean(values) == mean


@given(RETURNS)
def test_interquartile_mean_is_the_trimmed_mean_of_the_paper(values):
    values = np.float64(values)
    assert interquartile_mean(values) == pytest.approx(trim_mean(values, 0.25), abs=1e-9)


@given(RETURNS, st.integers(-1000, 1000))
def test_interquartile_mean_lies_inside_and_moves_along(values, shift):
    values = np.float64(values)
    mean = interquartile_mean(values)
    assert values.min() - 1e-9 <= mean <= values.max() + 1e-9
    assert interquartile_mean(values + shift) == pytest.approx(mean + shift, abs=1e-9)
    assert interquartile_mean(-values[::-1]) == pytest.approx(-mean, abs=1e-9)


def test_interquartile_mean_of_each_row_or_column():
    table = np.random.default_rng(0).normal(size=(5, 8))
    assert interquartile_mean(table).tolist() == [interquartile_mean(row) for row in table]
    assert interquartile_mean(table, axis=0).tolist() == [interquartile_mean(column) for column in table.T]


def test_a_quarter_of_outliers_does_not_move_the_interquartile_mean():
    values = np.float64([1001.0] * 75 + [-100.0] * 25)
    assert interquartile_mean(values) == 1001
    assert values.mean() < 730


def test_bootstrap_of_the_mean_agrees_with_the_normal_distribution():
    values = np.random.default_rng(1).normal(50, 10, 2000)
    error = values.std() / np.sqrt(values.size)
    expected = values.mean() + 1.96 * error * np.array([-1, 1])
    np.testing.assert_allclose(bootstrap_interval(values), expected, atol=0.1 * error)


def test_bootstrap_of_two_values_is_their_range():
    # A quarter of all resamples holds the one value twice, a quarter the other.
    assert bootstrap_interval([3, 5]) == (3, 5)


def test_the_same_seed_gives_the_same_interval_in_blocks_of_any_size(monkeypatch):
    values = np.random.default_rng(2).normal(size=100)
    intervals = {bootstrap_interval(values, interquartile_mean, seed=seed) for seed in (0, 0, 1)}
    assert len(intervals) == 2
    monkeypatch.setattr("jaxdodge.agents.statistics.BLOCK_VALUES", 1234)
    assert bootstrap_interval(values, interquartile_mean) in intervals


@given(RETURNS, st.sampled_from([np.mean, interquartile_mean]))
def test_bootstrap_interval_contains_the_estimate(values, statistic):
    low, high = bootstrap_interval(values, statistic, resamples=1000)
    assert min(values) - 1e-9 <= low <= statistic(np.float64(values)) + 1e-9
    assert statistic(np.float64(values)) - 1e-9 <= high <= max(values) + 1e-9


def test_an_interval_of_equal_values_is_that_value():
    assert bootstrap_interval([1001.0] * 128, interquartile_mean) == (1001, 1001)


# The examples of Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I.
@pytest.mark.parametrize(
    ("successes", "trials", "interval"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_interval_of_published_examples(successes, trials, interval):
    assert wilson_interval(successes, trials) == pytest.approx(interval, abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_wilson_interval_contains_the_rate_and_mirrors(counts):
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert low < high
    assert wilson_interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_histogram_of_known_values():
    assert histogram([0, 1, 2, 10, 10, 10], bins=2, width=6) == [
        "     0.0 to      5.0       3  ######",
        "     5.0 to     10.0       3  ######",
    ]
    assert histogram([0] * 100 + [4], bins=4, width=10) == [
        "     0.0 to      1.0     100  ##########",
        "     1.0 to      2.0       0",
        "     2.0 to      3.0       0",
        "     3.0 to      4.0       1  #",
    ]
    assert histogram([1001.0] * 8, width=4) == ["  1001.0 to   1001.0       8  ####"]


@given(RETURNS, st.integers(1, 20))
def test_histogram_counts_every_value_once(values, bins):
    lines = histogram(values, bins)
    assert len(lines) == (bins if max(values) > min(values) else 1)
    assert sum(int(line.split()[3]) for line in lines) == len(values)
    assert max(line.count("#") for line in lines) == 40
