"""Estimates with 95 % intervals; whatever is drawn is drawn by `resamples` and is the same for the same seed.

Percentile bootstrap: what belongs together (the answers on one head, the prompts of one operation) is drawn as a whole.
`scipy.stats.bootstrap` gives the same ends from the same draws (a test holds them to each other), but refuses a sample
of one and takes 3 ms more a call, and a score run makes thousands of calls.

`mean_over_heads` widens the percentile interval for small samples: the level is that of Student's t with n - 1 degrees
of freedom and sqrt(n / (n - 1)), without which the interval of ten heads covers about 90 % instead of 95 (Hesterberg
2015, "What teachers should know about the bootstrap", expanded percentile interval).

Shares of independent cases need no draws: Wilson's score interval, and Clopper and Pearson's exact one.

scipy is imported where it is used: the web app shows rates, and should not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]
TAIL: Final = 0.025  # left out on either side of an interval of 95 %
Z: Final = 1.959963984540054  # the normal quantile of 1 - TAIL
DRAWS: Final = 2000
HEAD_DRAWS: Final = 400  # for the interval of one head
MIN_HEADS: Final = 5  # with fewer, no interval over heads can be trusted


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; `value` None with the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str = ""

    def to_json(self, digits: int = 4) -> dict[str, float | None]:
        """`value, low, high`, rounded."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if one is None else round(float(one), digits) for name, one in values.items()}

    def text(self, digits: int = 2) -> str:
        """For people: `0.71 [0.60, 0.80]`, or why there is no number."""
        if self.value is None:
            return self.why
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def resamples(n: int, *, draws: int, seed: int | np.random.Generator) -> NDArray[np.int64]:
    """(draws, n) places of 0 … n - 1, drawn with replacement; a generator goes on where it stands."""
    return np.random.default_rng(seed).integers(n, size=(draws, n))


def percentile_interval(values: NDArray[np.float64], *, tail: float = TAIL) -> Interval:
    """The interval that leaves `tail` of the (draws,) values out on either side."""
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def interval_of_mean(values: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Interval | None:
    """Bootstrap interval of the mean of (n,) values; None without any."""
    data = np.asarray(values, dtype=float)
    if not len(data):
        return None
    return percentile_interval(data[resamples(len(data), draws=draws, seed=seed)].mean(1))


def mean_over_heads(values: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Mean with its widened interval; without one for fewer than MIN_HEADS values."""
    from scipy import stats

    n = len(values)
    if not n:
        return Estimate(None, why="no heads")
    data = np.asarray(values, dtype=float)
    if n < MIN_HEADS:
        return Estimate(float(data.mean()), n=n, why=f"fewer than {MIN_HEADS} heads")
    tail = float(stats.norm.cdf(sqrt(n / (n - 1)) * stats.t.ppf(TAIL, n - 1)))
    means = data[resamples(n, draws=draws, seed=seed)].mean(1)
    return Estimate(float(data.mean()), *percentile_interval(means, tail=tail), n)


def mean_rate(groups: Sequence[NDArray[np.bool_]], *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """The mean over `groups` of each group's share of True; the cases of a group are drawn within the group."""
    if not groups or any(not len(group) for group in groups):
        return Estimate(None, why="no prompts")
    rng = np.random.default_rng(seed)
    means = [group[resamples(len(group), draws=draws, seed=rng)].mean(1) for group in groups]
    value = float(np.mean([group.mean() for group in groups]))
    return Estimate(value, *percentile_interval(np.mean(means, axis=0)), sum(len(group) for group in groups))


def repeated_rate(outcomes: NDArray[np.bool_], *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Share of True in (repeats, n); the same cases (columns) are drawn in all repeats."""
    if not outcomes.size:
        return Estimate(None, why="no prompts")
    low, high = interval_of_mean(outcomes.mean(0), draws=draws, seed=seed) or (None, None)
    return Estimate(float(outcomes.mean()), low, high, outcomes.shape[1])


def clustered_rate(groups: Sequence[Sequence[bool]], *, draws: int = 1000, seed: int = 0) -> Estimate:
    """The share of True over all values; whole groups (heads) are drawn."""
    if not groups:
        return Estimate(None, why="no heads")
    value, drawn, n = _clustered(groups, draws, seed)
    return Estimate(value, *percentile_interval(drawn), n) if len(groups) > 1 else Estimate(value, n=n)


def gap(
    real: Sequence[Sequence[bool]], swapped: Sequence[Sequence[bool]], *, draws: int = 1000, seed: int = 0
) -> Estimate:
    """Share of True on real minus that on swapped descriptions, the heads of each drawn apart."""
    if not real or not swapped:
        return Estimate(None, why="no answers yet" if not real else "no answers on control items yet")
    value, drawn, _ = _clustered(real, draws, seed)
    other, other_drawn, _ = _clustered(swapped, draws, seed + 1)
    return Estimate(value - other, *percentile_interval(drawn - other_drawn), len(real) + len(swapped))


def _clustered(groups: Sequence[Sequence[bool]], draws: int, seed: int) -> tuple[float, NDArray[np.float64], int]:
    """The share, the shares of (draws,) resamples of groups, and the number of values."""
    yes = np.array([sum(group) for group in groups], dtype=float)
    n = np.array([len(group) for group in groups], dtype=float)
    drawn = resamples(len(groups), draws=draws, seed=seed)
    return float(yes.sum() / n.sum()), yes[drawn].sum(axis=1) / n[drawn].sum(axis=1), int(n.sum())


def interval_of_area(above: NDArray[np.float64], *, draws: int = HEAD_DRAWS, seed: int = 0) -> Interval:
    """Bootstrap interval of an area under the curve; rows of either side are drawn apart.

    above: (own, foreign), 1 where the own row is rated higher, a half in ties; neither side may be empty.
    """
    rng = np.random.default_rng(seed)
    # how often each row is drawn is enough here: the sum over draws of pairs becomes a product
    own, foreign = (rng.multinomial(n, [1 / n] * n, size=draws) for n in above.shape)
    return percentile_interval(np.einsum("di,ij,dj->d", own, above, foreign) / above.size)


def wilson(successes: int, n: int) -> Estimate:
    """A rate with Wilson's 95 % score interval (Wilson 1927)."""
    if n == 0:
        return Estimate(None, why="no heads")
    p, z2 = successes / n, Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), n)


def exact_share(k: float, n: int) -> Interval:
    """Clopper and Pearson's 95 % interval of k in n (1934); k may be fractional (shared credit)."""
    from scipy import stats

    low = stats.beta.ppf(TAIL, k, n - k + 1) if k > 0 else 0.0
    high = stats.beta.ppf(1 - TAIL, k + 1, n - k) if k < n else 1.0
    return float(low), float(high)
