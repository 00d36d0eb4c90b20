"""What heads are said to do from class to class, beside what they do in the running model, in nats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from eval.faithfulness.attention.classes import ClassMeasure, Pair
from eval.faithfulness.attention.readings import Claim
from eval.statistics.correlation import rank_correlation
from eval.statistics.intervals import clustered_rate

RELATIONS: Final = ("from anywhere", "to the same class", "to another class")
DIGITS: Final = 4
Row = Mapping[str, Any]


def class_summary(claims: Sequence[Claim], measured: Mapping[Pair, ClassMeasure]) -> dict[str, Any]:
    """Plain JSON values: all claims together, by what the classes are to each other, and one by one.

    Claims of pairs that were not measured are left out.
    """
    said = {(one.layer, one.head, one.reads, one.seeks) for one in claims}
    known = [one for one in claims if (one.reads, one.seeks) in measured]
    rows = [_row(one, measured[one.reads, one.seeks], said) for one in known]
    groups = {"all": rows} | {kind: [row for row in rows if _relation(row) == kind] for kind in RELATIONS}
    return {
        "pairs": len(measured),
        "groups": [_group(name, group) for name, group in groups.items()],
        "by_claim": rows,
    }


def _row(claim: Claim, found: ClassMeasure, said: set[tuple[int, int, str | None, str]]) -> dict[str, Any]:
    """`others`: heads of the layer that are not said to do the same."""
    layer, pair = claim.layer, (claim.reads, claim.seeks)
    others = [head for head in range(found.mean.shape[1]) if (layer, head, *pair) not in said]
    mean, low, high = (one[layer] for one in (found.mean, found.low, found.high))
    return {
        "layer": layer,
        "head": claim.head,
        "from": claim.reads,
        "to": claim.seeks,
        "texts": found.n,
        "read": round(claim.nats, DIGITS),
        "mean": round(float(mean[claim.head]), DIGITS),
        "low": round(float(low[claim.head]), DIGITS),
        "high": round(float(high[claim.head]), DIGITS),
        "others": [
            {name: round(float(one[i]), DIGITS) for name, one in (("mean", mean), ("low", low))} for i in others
        ],
    }


def _relation(row: Row) -> str:
    """One of RELATIONS."""
    reads, seeks = row["from"], row["to"]
    return RELATIONS[0] if reads is None else RELATIONS[1] if reads == seeks else RELATIONS[2]


def _group(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """A claim holds where its interval lies above 0. Intervals of shares draw pairs of classes anew, whose claims have
    the same texts; `others` and `others_held` are of the other heads of the same layers."""
    by_pair: dict[Pair, list[Row]] = {}
    for row in rows:
        by_pair.setdefault((row["from"], row["to"]), []).append(row)
    others = {pair: [other for row in group for other in row["others"]] for pair, group in by_pair.items()}
    read, real = ([row[name] for row in rows] for name in ("read", "mean"))
    return {
        "name": name,
        "claims": len(rows),
        "pairs": len(by_pair),
        "held": _share(by_pair.values()),
        "others_held": _share(others.values()),
        "read": _mean(read),
        "real": _mean(real),
        "others": _mean([other["mean"] for group in others.values() for other in group]),
        "rho": rank_correlation(read, real).to_json(),
    }


def _share(groups: Iterable[Sequence[Row]]) -> dict[str, float | None]:
    """Whose interval lies above 0."""
    return clustered_rate([[row["low"] > 0 for row in group] for group in groups if group]).to_json()


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), DIGITS) if values else None
