"""Intervals: equal to scipy's and statsmodels', seeded, and covering the truth as often as they say."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from eval.statistics.intervals import (
    MIN_HEADS,
    clustered_rate,
    exact_share,
    gap,
    interval_of_area,
    interval_of_mean,
    mean_over_heads,
    mean_rate,
    repeated_rate,
    wilson,
)


@pytest.mark.parametrize("n", [2, 12, 60])
def test_the_bootstrap_is_scipys_draw_by_draw(n):
    values = np.random.default_rng(n).random(n)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=300, rng=np.random.default_rng(7))
    assert interval_of_mean(values, draws=300, seed=7) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-12)


def test_the_bootstrap_over_heads_and_groups_is_scipys_too():
    rng = np.random.default_rng(5)
    groups = [list(rng.random(size) < 0.6) for size in rng.integers(1, 5, 30)]
    yes, n = np.array([sum(g) for g in groups], float), np.array([len(g) for g in groups], float)
    theirs = stats.bootstrap(
        (yes, n), lambda y, m, axis: y.sum(axis) / m.sum(axis), paired=True, vectorized=True,
        method="percentile", n_resamples=300, rng=np.random.default_rng(2),
    )  # fmt: skip
    ours = clustered_rate(groups, draws=300, seed=2)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-12)
    parts = [rng.random(10) < 0.4, rng.random(25) < 0.8]
    theirs = stats.bootstrap(
        parts, lambda a, b, axis: (a.mean(axis) + b.mean(axis)) / 2, vectorized=True,
        method="percentile", n_resamples=300, rng=np.random.default_rng(4),
    )  # fmt: skip
    ours = mean_rate(parts, draws=300, seed=4)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-12)
    assert ours.n == 35


def test_repeats_share_their_prompts():
    """Five equal draws say no more than one: the interval must not shrink."""
    once = np.random.default_rng(4).random((1, 50)) < 0.5
    five = np.repeat(once, 5, axis=0)
    alone, together = repeated_rate(once), repeated_rate(five)
    assert (together.low, together.high) == (alone.low, alone.high)
    assert mean_rate([]).value is None
    assert repeated_rate(np.zeros((0, 5), dtype=bool)).value is None
    several = mean_rate([np.ones(10, dtype=bool), np.zeros(30, dtype=bool)])
    assert several.value == 0.5


def test_wilson_equals_statsmodels() -> None:
    for successes, n in ((0, 7), (3, 7), (7, 7), (80, 100), (1, 1)):
        low, high = proportion_confint(successes, n, method="wilson")
        ours = wilson(successes, n)
        assert (ours.low, ours.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert wilson(0, 0).text() == "no heads"


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    hits = 0
    for seed in range(60):
        rng = random.Random(seed)
        groups = [[rng.random() < p for _ in range(3)] for p in (rng.choice((0.4, 1.0)) for _ in range(80))]
        found = clustered_rate(groups, draws=300, seed=seed)
        hits += (found.low or 0) <= 0.7 <= (found.high or 0)
    assert hits >= 51


def test_the_gap_is_real_minus_swapped() -> None:
    found = gap([[True, True]] * 20 + [[True, False]] * 5, [[False, True]] * 4 + [[False, False]] * 6, draws=200)
    assert found.value == pytest.approx(0.9 - 0.2)
    assert found.low is not None
    assert found.high is not None
    assert 0.4 < found.low < found.value < found.high < 0.95
    assert gap([[True]], []).text() == "no answers on control items yet"
    assert gap([], []).text() == "no answers yet"


@given(st.integers(1, 40), st.data())
def test_exact_share_is_clopper_pearson(n, data):
    k = data.draw(st.integers(0, n))
    assert exact_share(k, n) == pytest.approx(proportion_confint(k, n, method="beta"), abs=1e-9)
    low, high = exact_share(k * 0.999, n)
    assert 0 <= low <= k / n <= high + 1e-3


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda rng, n: rng.normal(0.1, 0.2, n), id="normal"),
        pytest.param(lambda rng, n: rng.beta(2, 5, n), id="skewed"),
        pytest.param(lambda rng, n: rng.integers(-2, 4, n) / 4, id="coarse"),
    ],
)
def test_intervals_over_heads_cover_the_mean(draw):
    """250 collections of 12 heads: the 95 % interval misses the true mean in at most one in ten."""
    rng = np.random.default_rng(1)
    mean = float(draw(np.random.default_rng(2), 400_000).mean())
    hits = 0
    for seed in range(250):
        found = mean_over_heads(list(draw(rng, 12)), draws=400, seed=seed)
        hits += found.low <= mean <= found.high
    assert hits / 250 >= stats.binom.ppf(0.001, 250, 0.93) / 250


def test_intervals_are_seeded_and_absent_for_few_heads():
    values = [0.2, 0.4, 0.9, 0.5, 0.1, 0.7]
    assert mean_over_heads(values, seed=3) == mean_over_heads(values, seed=3)
    assert mean_over_heads(values, seed=3) != mean_over_heads(values, seed=4)
    few = mean_over_heads([0.5] * (MIN_HEADS - 1))
    assert (few.value, few.low, few.why) == (0.5, None, "fewer than 5 heads")
    assert mean_over_heads([]).value is None


def test_interval_of_an_area_holds_it_and_shrinks_with_rows():
    chance = np.random.default_rng(0)
    widths = []
    for n in (10, 200):
        own, foreign = chance.normal(0.6, 0.2, n), chance.normal(0.4, 0.2, n)
        above = (np.sign(own[:, None] - foreign[None, :]) + 1) / 2
        low, high = interval_of_area(above)
        assert low <= above.mean() <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_a_mean_of_one_value_has_that_value_for_its_ends_and_of_none_no_interval():
    assert interval_of_mean([0.25]) == (0.25, 0.25)
    assert interval_of_mean([]) is None
