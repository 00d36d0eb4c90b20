"""Counted claims against a null: k of n rows, and how surprising that is.

Null for claims about pairs of source and target: the same targets, permuted across the rows of the same head. The
expected rate is the mean over all n(n-1) crossings, so a token that appears in every row surprises nobody.
Null for claims about one side (fields, token classes): the rate in a measured background, see `calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from maps_engine.results import MappingRow

RowHit = Callable[[MappingRow, MappingRow], bool]  # source of the first row, targets of the second


def log_likelihood_ratio(k: int, n: int, p0: float) -> float:
    """n * KL(k/n || p0) in nats when k/n exceeds p0, else 0: how much better the counted rate explains k of n."""
    if n <= 0 or k <= 0:
        return 0.0
    p = k / n
    if p <= p0:
        return 0.0
    miss = (n - k) * math.log((1 - p) / (1 - p0)) if k < n else 0.0
    return k * math.log(p / p0) + miss


def count(rows: Sequence[MappingRow], hit: RowHit) -> int:
    """Rows whose own targets satisfy `hit`."""
    return sum(hit(row, row) for row in rows)


def crossed_rate(rows: Sequence[MappingRow], hit: RowHit) -> float:
    """Mean rate of `hit` with the targets of every other row, half a hit added so that it is never 0."""
    n = len(rows)
    if n < 2:
        return 0.5
    crossed = sum(hit(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j)
    return (crossed + 0.5) / (n * (n - 1) + 1)


def strength(rows: Sequence[MappingRow], hit: RowHit, *, at_least: int) -> tuple[int, float, float]:
    """(k, expected rate, log-likelihood ratio); crossings are only counted from `at_least` hits on."""
    k = count(rows, hit)
    if k < at_least:
        return k, 1.0, 0.0
    rate = min(crossed_rate(rows, hit), 0.999)
    return k, rate, log_likelihood_ratio(k, len(rows), rate)
