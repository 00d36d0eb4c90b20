"""Correlation of two scores over the heads of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from torch import Tensor


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
