"""Correlations of two scores over heads, and intervals over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from eval.rating.report.agreement import Estimate

TAU = 0.15  # a head implements an operation from here on (METHOD, question a)


@dataclass(frozen=True)
class Correlation:
    """Pearson r and Spearman rho over n heads, with two-sided p; None where one side does not vary."""

    r: float | None
    p: float | None
    rho: float | None
    rho_p: float | None
    n: int


def correlate(static: Tensor, dynamic: Tensor) -> Correlation:
    """Over all heads; scores of any shape."""
    x = static.flatten().double().numpy(force=True)
    y = dynamic.flatten().double().numpy(force=True)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(None, None, None, None, len(x))
    pearson, spearman = stats.pearsonr(x, y), stats.spearmanr(x, y)
    return Correlation(
        float(pearson.statistic), float(pearson.pvalue), float(spearman.statistic), float(spearman.pvalue), len(x)
    )


def mean_rate(groups: Sequence[NDArray[np.bool_]], *, draws: int = 2000, seed: int = 0) -> Estimate:
    """The mean over `groups` of each group's share of True; prompts of a group are drawn anew for the interval."""
    if not groups or any(not len(group) for group in groups):
        return Estimate(None, why="no prompts")
    rng = np.random.default_rng(seed)
    means = [rng.choice(group, (draws, len(group))).mean(1) for group in groups]
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    value = float(np.mean([group.mean() for group in groups]))
    return Estimate(value, float(low), float(high), sum(len(group) for group in groups))


def repeated_rate(outcomes: NDArray[np.bool_], *, draws: int = 2000, seed: int = 0) -> Estimate:
    """Mean over repeats (rows) of the share of True; the same prompts (columns) are drawn in all repeats."""
    repeats, n = outcomes.shape
    if not n or not repeats:
        return Estimate(None, why="no prompts")
    picked = np.random.default_rng(seed).integers(n, size=(draws, n))
    means = outcomes.mean(0)[picked].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(outcomes.mean()), float(low), float(high), n)
