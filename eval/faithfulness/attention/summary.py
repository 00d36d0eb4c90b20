"""What came out: readings against real attention over heads, and predictions over the keys of a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.faithfulness.attention.class_summary import class_summary
from eval.faithfulness.attention.classes import ClassMeasure, Pair
from eval.faithfulness.attention.measured import EARLIEST, EVERY, IN_REPEATS, OVER_KEYS, Means
from eval.faithfulness.attention.readings import READINGS, ReadHeads
from eval.faithfulness.attention.texts import LENGTH
from eval.statistics.correlation import rank_correlation
from eval.statistics.intervals import Estimate, interval_of_area, mean_over_heads
from maps_engine.model import ModelShape

CLEAR: Final = 0.3  # real attention above which a head clearly does what a reading is about
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
            "classes": class_summary(self.read.claims, self.classes),
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
            "rho": rank_correlation(read, real).to_json(),
            "null": rank_correlation(self.read.null[name], real).to_json(),
            "area": area(read, real > CLEAR).to_json(),
            "clear": int((real > CLEAR).sum()),
            "strongest": [self._place(int(i)) | {"real": _rounded(real[i]), "read": _rounded(read[i])} for i in order],
        }

    def _keys(self, name: str, runs: Sequence[Run]) -> dict[str, Any]:
        """Means over heads of rho over keys, each head's the mean over all queries of these texts."""
        pieces, null = (sum(each) for each in zip(*((one.n, one.n_null) for one in runs), strict=True))
        asked = len(range(EARLIEST, LENGTH, EVERY))
        means = {one: mean_over_heads(_flat(runs, one).tolist()).to_json() for one in OVER_KEYS}
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


def _rounded(value: float) -> float:
    return round(float(value), 4)
