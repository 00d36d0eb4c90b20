"""Intervals: over heads for means and gaps, over items for one head; all seeded.

Over heads: the bootstrap percentile interval widened for small samples: the level is taken from Student's t with n - 1
degrees of freedom and sqrt(n / (n - 1)), without which the interval of ten heads covers about 90 % instead of 95
(Hesterberg 2015, "What teachers should know about the bootstrap", expanded percentile interval).
Over items of one head: items are drawn again within each side (own, foreign), or whole groups where items of a group
belong together; a share of k in n sets has Clopper and Pearson's exact interval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import sqrt

import numpy as np
from scipy import stats

from eval.agreement import Estimate
from eval.scoring.measures import Measure
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


def interval_of_head(
    judged: Sequence[Judged], measure: Measure, *, grouped: bool, draws: int = HEAD_DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """95 % bootstrap percentile interval of `measure`; None where it cannot be computed in most draws."""
    strata = _strata(judged, grouped)
    if not strata:
        return None
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn: list[Judged] = []
        for units in strata:
            for place, unit in enumerate(rng.integers(len(units), size=len(units))):
                drawn += units[unit] if not grouped else _renumbered(units[unit], place)
        value = measure(drawn)
        if value is not None:
            values.append(value)
    if len(values) < draws / 2:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _strata(judged: Sequence[Judged], grouped: bool) -> list[list[list[Judged]]]:
    """What is drawn again: items one by one within each side, or whole groups."""
    answered = [one for one in judged if one.rating is not None]
    if grouped:
        groups: dict[int, list[Judged]] = defaultdict(list)
        for one in answered:
            groups[one.group].append(one)
        return [list(groups.values())] if groups else []
    sides = [[[one] for one in answered if (one.truth > 0) is own] for own in (True, False)]
    return [side for side in sides if side]


def _renumbered(items: Sequence[Judged], group: int) -> list[Judged]:
    """A group drawn twice counts as two groups."""
    return [Judged(group, one.kind, one.truth, one.rating) for one in items]
