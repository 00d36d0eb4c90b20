"""Intervals: over heads for means and gaps, over items for one head; all seeded.

Over heads: the bootstrap percentile interval widened for small samples: the level is taken from Student's t with n - 1
degrees of freedom and sqrt(n / (n - 1)), without which the interval of ten heads covers about 90 % instead of 95
(Hesterberg 2015, "What teachers should know about the bootstrap", expanded percentile interval).
Over items of one head: rows are drawn again within each side (own, foreign), sources of simulation as a whole; a share
of k in n sets has Clopper and Pearson's exact interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.rating.report.agreement import Estimate
from eval.scoring.measures import comparisons
from eval.scoring.results import Judged

DRAWS = 2000
HEAD_DRAWS = 400  # for the interval of one head
MIN_HEADS = 5  # with fewer, no interval can be trusted


def mean_over_heads(values: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Mean with its 95 % interval; without one for fewer than MIN_HEADS values."""
    n = len(values)
    if not n:
        return Estimate(None, why="no heads")
    data = np.asarray(values, dtype=float)
    if n < MIN_HEADS:
        return Estimate(float(data.mean()), n=n, why=f"fewer than {MIN_HEADS} heads")
    means = data[np.random.default_rng(seed).integers(n, size=(draws, n))].mean(1)
    tail = float(stats.norm.cdf(sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1)))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(data.mean()), float(low), float(high), n)


def exact_share(k: float, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of k in n; k may be fractional (shared credit)."""
    low = stats.beta.ppf(0.025, k, n - k + 1) if k > 0 else 0.0
    high = stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return float(low), float(high)


def interval_of_area(judged: Sequence[Judged], *, draws: int = HEAD_DRAWS, seed: int = 0) -> tuple[float, float] | None:
    """95 % bootstrap interval of the area under the curve; None without items on both sides."""
    above = comparisons(judged)
    if above is None:
        return None
    rng = np.random.default_rng(seed)
    n_own, n_foreign = above.shape
    own, foreign = (rng.multinomial(n, [1 / n] * n, size=draws) for n in (n_own, n_foreign))
    values = np.einsum("di,ij,dj->d", own, above, foreign) / (n_own * n_foreign)
    return _percentiles(values)


def interval_of_groups(
    values: Sequence[float], *, draws: int = HEAD_DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """95 % bootstrap interval of a mean over groups; None without groups."""
    if not values:
        return None
    data = np.asarray(values, dtype=float)
    picked = np.random.default_rng(seed).integers(len(data), size=(draws, len(data)))
    return _percentiles(data[picked].mean(1))


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
