"""From judged items to one number a head; the score of guessing is known for each measure.

area_under_curve      P(an own row is rated above a foreign one), ties half; chance 0.5
balanced_accuracy     mean of the share of own rows said to fit and of foreign rows said not to; chance 0.5
intruders_found       share of sets whose intruder alone is rated lowest, ties shared; chance 1/size
concordance           P(of two candidates of a source, the one the head promotes more is rated higher); chance 0.5
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.scoring.results import Judged

Measure = Callable[[Sequence[Judged]], float | None]
YES = 0.5  # a rating from here on says that the row fits


def area_under_curve(judged: Sequence[Judged]) -> float | None:
    """None without items on both sides."""
    above = comparisons(judged)
    return None if above is None else float(above.mean())


def comparisons(judged: Sequence[Judged]) -> NDArray[np.float64] | None:
    """(own, foreign): 1 where the own row is rated higher, a half in ties; None without items on both sides."""
    own, foreign = _ratings(judged, own=True), _ratings(judged, own=False)
    if not len(own) or not len(foreign):
        return None
    above: NDArray[np.float64] = (np.sign(own[:, None] - foreign[None, :]) + 1) / 2
    return above


def balanced_accuracy(judged: Sequence[Judged]) -> float | None:
    """At a rating of 0.5; None without items on both sides."""
    own, foreign = _ratings(judged, own=True), _ratings(judged, own=False)
    if not len(own) or not len(foreign):
        return None
    return float(((own >= YES).mean() + (foreign < YES).mean()) / 2)


def intruders_found(judged: Sequence[Judged]) -> float | None:
    """The intruder is the item of a set with truth 0; sets with an unanswered item do not count."""
    found = [_found(items) for items in complete_groups(judged)]
    return float(np.mean(found)) if found else None


def _found(items: Sequence[Judged]) -> float:
    lowest = min(one.rating or 0.0 for one in items)
    suspects = [one for one in items if (one.rating or 0.0) == lowest]
    return sum(one.truth == 0 for one in suspects) / len(suspects)


def concordance(judged: Sequence[Judged]) -> float | None:
    """Mean over sources; pairs of equal truth do not count, ties in the rating count half."""
    each = concordances(judged)
    return float(np.mean(each)) if each else None


def concordances(judged: Sequence[Judged]) -> list[float]:
    """The same of every source that has pairs."""
    return [share for items in complete_groups(judged) if (share := _concordant(items)) is not None]


def _concordant(items: Sequence[Judged]) -> float | None:
    truth = np.array([one.truth for one in items])
    rating = np.array([one.rating for one in items], dtype=float)
    stronger = truth[:, None] > truth[None, :]
    if not stronger.any():
        return None
    return float(((np.sign(rating[:, None] - rating[None, :]) + 1) / 2)[stronger].mean())


def complete_groups(judged: Sequence[Judged]) -> list[list[Judged]]:
    """Items by group, groups with an unanswered item left out."""
    groups: dict[int, list[Judged]] = defaultdict(list)
    for one in judged:
        groups[one.group].append(one)
    return [items for items in groups.values() if all(one.rating is not None for one in items)]


def _ratings(judged: Sequence[Judged], *, own: bool) -> NDArray[np.float64]:
    return np.array([one.rating for one in judged if one.rating is not None and (one.truth > 0) == own], dtype=float)
