"""An engine that scores every pair once, however many heads' descriptions predict it.

phi of a set of pairs is the mean over its pairs of "hit or not", and a hit depends on the head, the pair, k and the
source alone. So hits are kept pair by pair for all heads: the same operation claimed for forty heads, each with other
sources left out, costs one pass over the layers for the union of its pairs instead of forty. Memory: two bytes a pair
and head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairScores, PairSet

ENTRIES_AT_ONCE = 60_000  # (source, target) entries of one pass: a few tens of MB of d_h numbers each

_Pair: TypeAlias = tuple[int, tuple[int, ...], int]  # source, accepted targets, k


@dataclass
class PairCachingEngine(MapsEngine):
    """`MapsEngine` whose `score_pairs` over all layers remembers the hits of every pair."""

    _hits: dict[tuple[str, _Pair], Tensor] = field(default_factory=dict, repr=False)

    def prepare(
        self, pair_sets: Mapping[str, Iterable[PairSet]], *, progress: Callable[[int], None] | None = None
    ) -> int:
        """Score all pairs that are not known yet, one pass per source; returns how many there were."""
        found = 0
        for source, sets in pair_sets.items():
            missing = [p for p in dict.fromkeys(_pairs_of(sets)) if (source, p) not in self._hits]
            found += len(missing)
            for part in _parts(missing):
                singles = [PairSet((s,), (targets,), k) for s, targets, k in part]
                scores = super().score_pairs(singles, source=source, progress=progress)
                for pair, one in zip(part, scores, strict=True):
                    self._hits[source, pair] = torch.stack([one.score, one.suppression]) > 0.5
        return found

    def score_pairs(
        self,
        pair_sets: Sequence[PairSet],
        *,
        source: str,
        layers: Iterable[int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[PairScores]:
        """As the plain engine's, equal to the last bit; a choice of layers is not remembered."""
        if layers is not None:
            return super().score_pairs(pair_sets, source=source, layers=layers, progress=progress)
        self.prepare({source: pair_sets}, progress=progress)
        return [self._joined(one, source) for one in pair_sets]

    def _joined(self, pair_set: PairSet, source: str) -> PairScores:
        shape = self.shape
        hits = torch.zeros(2, shape.n_layers, shape.n_heads)
        for pair in _pairs_of([pair_set]):
            hits += self._hits[source, pair]
        share = hits / max(1, len(pair_set.sources))
        return PairScores(share[0], share[1])


def _pairs_of(pair_sets: Iterable[PairSet]) -> Iterator[_Pair]:
    for one in pair_sets:
        for source, targets in zip(one.sources, one.targets, strict=True):
            yield source, targets, one.k


def _parts(pairs: Sequence[_Pair]) -> Iterator[list[_Pair]]:
    """`pairs` in order, cut where the entries of one part would be too many."""
    part: list[_Pair] = []
    size = 0
    for pair in pairs:
        if part and size + len(pair[1]) > ENTRIES_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(pair)
        size += len(pair[1])
    if part:
        yield part
