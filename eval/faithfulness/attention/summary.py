"""What came out: readings against real attention over heads, and predictions over the keys of a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.faithfulness.attention.classes import ClassMeasure, Pair
from eval.faithfulness.attention.measured import EARLIEST, EVERY, IN_REPEATS, OVER_KEYS, Means
from eval.faithfulness.attention.readings import READINGS, Claim, ReadHeads
from eval.faithfulness.attention.texts import LENGTH
from eval.statistics.correlation import rank_correlation
from eval.statistics.intervals import Estimate, clustered_rate, interval_of_area, mean_over_heads
from maps_engine.model import ModelShape

CLEAR: Final = 0.3  # real attention above which a head clearly does what a reading is about
RELATIONS: Final = ("from anywhere", "to the same class", "to another class")
STRONGEST: Final = 8  # heads that are listed of each reading
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One text in the running model: `n` pieces, and means of them, (L, H) each; null heads in `n_null` of them."""

    name: str
    source: str
    n: int
    n_null: int
    means: Means


@dataclass(frozen=True)
class AttentionTable:
    """All heads of a model: what was read, and what they do in texts and where tokens repeat."""

    shape: ModelShape
    read: ReadHeads
    texts: tuple[Run, ...]
    repeats: Run
    classes: Mapping[Pair, ClassMeasure]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "heads": self.shape.n_layers * self.shape.n_heads,
            "length": LENGTH,
            "earliest": EARLIEST,
            "every": EVERY,
            "clear": CLEAR,
            "texts": [{"name": one.name, "source": one.source, "pieces": one.n} for one in self.texts],
            "readings": [self._reading(name) for name in READINGS],
            "classes": self._classes(),
            "keys": [self._keys("all", self.texts), *(self._keys(one.name, [one]) for one in self.texts)],
            "by_head": self._by_head(),
        }

    def _real(self, name: str) -> Values:
        """(L H,): mean attention in the running model."""
        return _flat([self.repeats] if name in IN_REPEATS else self.texts, name)

    def _reading(self, name: str) -> dict[str, Any]:
        real, read = self._real(name), np.array(self.read.real[name])
        order = np.argsort(-real, kind="stable")[:STRONGEST]
        return {
            "reading": name,
            "rho": _plain(rank_correlation(read, real)),
            "null": _plain(rank_correlation(self.read.null[name], real)),
            "area": _plain(area(read, real > CLEAR)),
            "clear": int((real > CLEAR).sum()),
            "strongest": [self._place(int(i)) | {"real": _rounded(real[i]), "read": _rounded(read[i])} for i in order],
        }

    def _classes(self) -> dict[str, Any]:
        """Claims from class to class beside what heads do, in nats; all, and by what the classes are to each other."""
        rows = [row for one in self.read.claims if (row := self._claim(one)) is not None]
        groups = {"all": rows} | {kind: [row for row in rows if _relation(row) == kind] for kind in RELATIONS}
        return {
            "pairs": len(self.classes),
            "groups": [_group(name, group) for name, group in groups.items()],
            "by_claim": rows,
        }

    def _claim(self, claim: Claim) -> dict[str, Any] | None:
        """None where the pair was not measured. `others`: heads of the layer that are not said to do the same."""
        pair, layer = (claim.reads, claim.seeks), claim.layer
        if pair not in self.classes:
            return None
        found, said = self.classes[pair], {(one.layer, one.head, one.reads, one.seeks) for one in self.read.claims}
        others = [head for head in range(self.shape.n_heads) if (layer, head, *pair) not in said]
        values = {name: float(getattr(found, name)[layer, claim.head]) for name in ("mean", "low", "high")}
        row: dict[str, Any] = {
            "layer": layer,
            "head": claim.head,
            "from": claim.reads,
            "to": claim.seeks,
            "texts": found.n,
        }
        row |= {"read": _rounded(claim.nats)} | {name: _rounded(value) for name, value in values.items()}
        return row | {
            "others": [_rounded(float(found.mean[layer, head])) for head in others],
            "others_held": sum(bool(found.low[layer, head] > 0) for head in others),
        }

    def _keys(self, name: str, runs: Sequence[Run]) -> dict[str, Any]:
        """Means over heads of rho over keys, each head's the mean over all queries of these texts."""
        pieces, null = (sum(each) for each in zip(*((one.n, one.n_null) for one in runs), strict=True))
        asked = len(range(EARLIEST, LENGTH, EVERY))
        means = {one: _plain(mean_over_heads(_flat(runs, one).tolist())) for one in OVER_KEYS}
        return {"text": name, "pieces": pieces, "queries": pieces * asked, "null_queries": null * asked, **means}

    def _by_head(self) -> list[dict[str, Any]]:
        """All numbers of every head, layer by layer."""
        real = {name: self._real(name).tolist() for name in READINGS}
        keys = {name: _flat(self.texts, name).tolist() for name in OVER_KEYS}
        sides = {"real": real, "read": self.read.real, "null": self.read.null, "keys": keys}
        return [
            self._place(i)
            | {side: {name: _rounded(each[i]) for name, each in values.items()} for side, values in sides.items()}
            for i in range(self.shape.n_layers * self.shape.n_heads)
        ]

    def _place(self, i: int) -> dict[str, int]:
        return {"layer": i // self.shape.n_heads, "head": i % self.shape.n_heads}


def _relation(row: Mapping[str, Any]) -> str:
    """One of RELATIONS."""
    reads, seeks = row["from"], row["to"]
    return RELATIONS[0] if reads is None else RELATIONS[1] if reads == seeks else RELATIONS[2]


def _group(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A claim holds where its interval lies above 0. Intervals of shares draw pairs of classes anew, whose claims have
    the same texts; `others` and `others_held` are of the other heads of the same layers."""
    by_pair: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_pair.setdefault((row["from"], row["to"]), []).append(row)
    held = [[row["low"] > 0 for row in group] for group in by_pair.values()]
    others_held = [
        [held < row["others_held"] for row in group for held in range(len(row["others"]))] for group in by_pair.values()
    ]
    read, real = ([row[name] for row in rows] for name in ("read", "mean"))
    others = [mean for row in rows for mean in row["others"]]
    return {
        "name": name,
        "claims": len(rows),
        "pairs": len(by_pair),
        "held": _plain(clustered_rate(held)),
        "others_held": _plain(clustered_rate([one for one in others_held if one])),
        "read": _mean(read),
        "real": _mean(real),
        "others": _mean(others),
        "rho": _plain(rank_correlation(read, real)),
    }


def _mean(values: Sequence[float]) -> float | None:
    return _rounded(float(np.mean(values))) if values else None


def area(read: Values, clear: NDArray[np.bool_]) -> Estimate:
    """The share of pairs of a clear head and another in which the clear one is read higher, with its interval."""
    if clear.all() or not clear.any():
        return Estimate(None, why="no head, or every one, is clear")
    apart = read[clear][:, None] - read[~clear][None, :]
    above = (apart > 0) + 0.5 * (apart == 0)
    return Estimate(float(above.mean()), *interval_of_area(above), int(clear.sum()))


def weighted(parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """(L, H): the mean of several means (L, H), each of so many pieces."""
    shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    return torch.einsum("rlh,r->lh", torch.stack(list(parts)), shares)


def _flat(runs: Sequence[Run], name: str) -> Values:
    """(L H,): the mean over the pieces of all runs."""
    pieces = [one.n_null if name.startswith("null") else one.n for one in runs]
    return weighted([one.means[name] for one in runs], pieces).flatten().numpy()


def _plain(one: Estimate) -> dict[str, float | None]:
    return {name: _rounded(value) for name, value in asdict(one).items() if name in ("value", "low", "high")}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
