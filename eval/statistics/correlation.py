"""Correlation of two scores over the heads of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

from eval.statistics.intervals import DRAWS, Estimate, percentile_interval, resamples


@dataclass(frozen=True)
class Correlation:
    """Pearson r and Spearman rho over n heads, with two-sided p; None where one side does not vary."""

    r: float | None
    p: float | None
    rho: float | None
    rho_p: float | None
    n: int


def correlate(static: Tensor, dynamic: Tensor) -> Correlation:
    """Over all heads; scores of any one shape, such as (L, H). Undefined for fewer than three heads."""
    x = static.flatten().double().numpy(force=True)
    y = dynamic.flatten().double().numpy(force=True)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(None, None, None, None, len(x))
    pearson, spearman = stats.pearsonr(x, y), stats.spearmanr(x, y)
    return Correlation(
        float(pearson.statistic), float(pearson.pvalue), float(spearman.statistic), float(spearman.pvalue), len(x)
    )


def rank_correlation(first: ArrayLike, second: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Spearman's rho of (n,) values with a percentile interval, cases drawn anew; draws that do not vary are left out.

    No value where one side does not vary, or for fewer than three cases.
    """
    x, y = (np.asarray(one, dtype=float) for one in (first, second))
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate(None, n=len(x), why="undefined: one side does not vary")
    drawn = resamples(len(x), draws=draws, seed=seed)
    varied = drawn[(np.ptp(x[drawn], axis=1) > 0) & (np.ptp(y[drawn], axis=1) > 0)]
    low, high = percentile_interval(_rho(x[varied], y[varied]))
    return Estimate(float(_rho(x[None], y[None])[0]), low, high, len(x))


def _rho(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row (m, n)."""
    ranks = [stats.rankdata(one, axis=1) for one in (x, y)]
    a, b = (one - one.mean(axis=1, keepdims=True) for one in ranks)
    return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
