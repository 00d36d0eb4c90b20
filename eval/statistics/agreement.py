"""Agreement between raters and rates of answers, with intervals.

Coefficients on nominal answers, missing answers allowed:
- percent: mean over items of the share of agreeing rater pairs.
- Krippendorff's alpha: 1 - D_o / D_e, computed by `krippendorff` (nominal level).
- Gwet's AC1: (p_a - p_e) / (1 - p_e) with p_e = sum_c pi_c (1 - pi_c) / (C - 1), pi_c the mean share of category c
  over items (Gwet 2008; an item with one answer counts for pi_c and not for p_a).
- Cohen's kappa for every pair of raters, on the items both answered.

They answer different questions: on data that is nearly all "yes", raters who answer at random reach a high AC1 and
a high percentage while alpha is near zero. So they are always given together, with the prevalence. When all ratings
are equal, alpha and kappa are 0/0: that is said as "undefined: all ratings equal" and never as a number.

Intervals (`eval.statistics.intervals`): coefficients and rates of ratings by a bootstrap that draws items (answers on
one item belong together); rates of items by Wilson's score interval.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from eval.statistics.intervals import Estimate, clustered_rate, percentile_interval, resamples, wilson

UNDEFINED = "undefined: all ratings equal"
TOO_FEW = "undefined: no item has two ratings"
Table = NDArray[np.float64]  # (raters, items); category numbers, nan where there is no answer


@dataclass(frozen=True)
class Answered:
    """One answer of one rater on one item: a description of a head with its rows."""

    item: str
    rater: str
    value: str


@dataclass(frozen=True)
class Agreement:
    """All coefficients of one question; `prevalence` is the share of ratings with each answer."""

    n_items: int
    n_raters: int
    n_ratings: int
    prevalence: Mapping[str, float]
    percent: Estimate
    alpha: Estimate
    ac1: Estimate
    kappa: Mapping[tuple[str, str], Estimate]

    def text(self) -> str:
        """One line for people: the coefficients with intervals, counts and prevalence."""
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self.prevalence.items())
        return (
            f"percent {self.percent.text()}, alpha {self.alpha.text()}, AC1 {self.ac1.text()}; "
            f"n = {self.n_ratings} ratings of {self.n_items} items by {self.n_raters} raters ({shares})"
        )


def agreement(answers: Sequence[Answered], *, draws: int = 1000, seed: int = 0) -> Agreement:
    """Every coefficient with its interval, the same for the same seed; a coefficient that is undefined says why."""
    table, raters, categories = as_table(answers)
    shared = table[:, np.sum(~np.isnan(table), axis=0) >= 2]
    total = len(answers)
    counted = Counter(answer.value for answer in answers)
    n_items = table.shape[1]

    def estimate(measure: Callable[[Table, int], float | None], data: Table) -> Estimate:
        return _with_interval(measure, data, len(categories), draws=draws, seed=seed)

    return Agreement(
        n_items=n_items,
        n_raters=len(raters),
        n_ratings=total,
        prevalence={name: counted[name] / total for name in categories},
        percent=estimate(percent_of, shared),
        alpha=estimate(alpha_of, shared),
        ac1=estimate(ac1_of, table if shared.shape[1] else shared),
        kappa=pairwise_kappa(table, raters, draws=draws, seed=seed),
    )


def as_table(answers: Iterable[Answered]) -> tuple[Table, list[str], list[str]]:
    """The (raters, items) table of category numbers, the raters and the categories, all sorted."""
    listed = list(answers)
    raters = sorted({a.rater for a in listed})
    items = sorted({a.item for a in listed})
    categories = sorted({a.value for a in listed})
    row, column = {r: i for i, r in enumerate(raters)}, {t: i for i, t in enumerate(items)}
    number = {c: float(i) for i, c in enumerate(categories)}
    table = np.full((len(raters), len(items)), np.nan)
    for a in listed:
        table[row[a.rater], column[a.item]] = number[a.value]
    return table, raters, categories


def _counts(table: Table, n_categories: int) -> Table:
    """(items, categories): how many raters said what."""
    return np.stack([np.sum(table == c, axis=0) for c in range(n_categories)], axis=1).astype(float)


def percent_of(table: Table, n_categories: int) -> float | None:
    """Observed agreement: the mean over items with two ratings or more."""
    counts = _counts(table, n_categories)
    n = counts.sum(axis=1)
    counts, n = counts[n >= 2], n[n >= 2]
    if not len(n):
        return None
    return float(np.mean((counts * (counts - 1)).sum(axis=1) / (n * (n - 1))))


def alpha_of(table: Table, n_categories: int) -> float | None:
    """Krippendorff's alpha (nominal); None where it is 0/0."""
    import krippendorff

    values = table[:, np.sum(~np.isnan(table), axis=0) >= 2]
    if values.size == 0 or len(np.unique(values[~np.isnan(values)])) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(krippendorff.alpha(reliability_data=values, level_of_measurement="nominal"))


def ac1_of(table: Table, n_categories: int) -> float | None:
    """Gwet's AC1; None with fewer than two categories in use, or where no item has two ratings."""
    observed = percent_of(table, n_categories)
    if observed is None or n_categories < 2:
        return None
    counts = _counts(table, n_categories)
    counts = counts[counts.sum(axis=1) > 0]
    shares = np.mean(counts / counts.sum(axis=1, keepdims=True), axis=0)
    expected = float(np.sum(shares * (1 - shares)) / (n_categories - 1))
    return (observed - expected) / (1 - expected)


def kappa_of(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Cohen's kappa of two complete rows; None where chance agreement is 1."""
    if not len(first):
        return None
    categories = np.union1d(first, second)
    chance = sum(float(np.mean(first == c) * np.mean(second == c)) for c in categories)
    if math.isclose(chance, 1.0):
        return None
    return (float(np.mean(first == second)) - chance) / (1 - chance)


def pairwise_kappa(
    table: Table, raters: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> dict[tuple[str, str], Estimate]:
    """Cohen's kappa for every pair of raters who share an item."""
    found: dict[tuple[str, str], Estimate] = {}
    for a, b in combinations(range(len(raters)), 2):
        both = table[[a, b]][:, ~np.isnan(table[[a, b]]).any(axis=0)]
        if both.shape[1]:
            found[raters[a], raters[b]] = _with_interval(
                lambda t, _: kappa_of(t[0], t[1]), both, 0, draws=draws, seed=seed
            )
    return found


def _with_interval(
    measure: Callable[[Table, int], float | None], table: Table, n_categories: int, *, draws: int, seed: int
) -> Estimate:
    """The measure with a percentile interval over draws of items, those left out where the measure is undefined.

    No interval for one item, or where the measure is undefined in more than half of the draws.
    """
    n = table.shape[1]
    if n == 0:
        return Estimate(None, why=TOO_FEW)
    value = measure(table, n_categories)
    if value is None:
        return Estimate(None, n=n, why=UNDEFINED)
    drawn = (measure(table[:, places], n_categories) for places in resamples(n, draws=draws, seed=seed))
    values = np.array([one for one in drawn if one is not None])
    if n < 2 or len(values) < draws / 2:
        return Estimate(value, n=n)
    return Estimate(value, *percentile_interval(values), n)


@dataclass(frozen=True)
class Rates:
    """Share of items (majority of their raters) and of ratings that say `wanted`."""

    items: Estimate  # ties left out of the denominator
    ties: int
    ratings: Estimate


def majority(values: Sequence[bool]) -> bool | None:
    """The majority, or None for a tie (or no value)."""
    yes = sum(values)
    return None if 2 * yes == len(values) else 2 * yes > len(values)


def rates(answers: Iterable[Answered], *, wanted: Sequence[str], draws: int = 1000, seed: int = 0) -> Rates:
    """The share of items, by majority, and of ratings that say one of `wanted`; ties are counted separately."""
    by_item: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        by_item[answer.item].append(answer.value in wanted)
    verdicts = [majority(values) for values in by_item.values()]
    decided = [verdict for verdict in verdicts if verdict is not None]
    return Rates(
        items=wilson(sum(decided), len(decided)),
        ties=len(verdicts) - len(decided),
        ratings=clustered_rate(list(by_item.values()), draws=draws, seed=seed),
    )
