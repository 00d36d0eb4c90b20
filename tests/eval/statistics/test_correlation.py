"""Correlations over heads: equal to scipy's, and none where nothing varies."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from eval.statistics.correlation import correlate


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
