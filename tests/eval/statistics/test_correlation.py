"""Correlations over heads: equal to scipy's, and none where nothing varies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from eval.statistics.correlation import correlate, rank_correlation


def test_correlation_against_scipy():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, 9, generator=generator)
    y = x + 0.3 * torch.rand(6, 9, generator=generator)
    ours = correlate(x, y)
    pearson = stats.pearsonr(x.flatten().double().numpy(), y.flatten().double().numpy())
    spearman = stats.spearmanr(x.flatten().numpy(), y.flatten().numpy())
    assert (ours.r, ours.p) == pytest.approx((pearson.statistic, pearson.pvalue))
    assert (ours.rho, ours.rho_p) == pytest.approx((spearman.statistic, spearman.pvalue))
    assert ours.n == 54


@pytest.mark.parametrize("x", [torch.zeros(4, 4), torch.tensor([[1.0, 2.0]])])
def test_no_correlation_where_nothing_varies(x):
    found = correlate(x, torch.rand_like(x))
    assert (found.r, found.p, found.rho) == (None, None, None)


def test_rank_correlation_is_scipy_s_with_an_interval_around_it():
    chance = np.random.default_rng(0)
    x = chance.integers(0, 9, 80)  # with ties
    y = x + chance.normal(size=80)
    found = rank_correlation(x, y)
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    again = stats.bootstrap(
        (x, y),
        lambda *one: stats.spearmanr(*one).statistic,
        paired=True,
        vectorized=False,
        n_resamples=500,
        method="percentile",
    ).confidence_interval
    assert found.low == pytest.approx(again.low, abs=0.03)
    assert found.high == pytest.approx(again.high, abs=0.03)
    assert found == rank_correlation(x, y)


def test_draws_of_rank_correlation_that_do_not_vary_are_left_out():
    found = rank_correlation([0.0, 0.0, 1.0], [1.0, 2.0, 3.0])
    assert found.value == pytest.approx(3**0.5 / 2)
    assert -1 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("x", [[1.0, 1.0, 1.0], [1.0, 2.0]])
def test_no_rank_correlation_where_nothing_varies(x):
    found = rank_correlation(x, list(range(len(x))))
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.why
