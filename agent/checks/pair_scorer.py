"""Scores of pairs on all heads of a model, every pair scored once, however many heads' descriptions predict it.

Pairs are scored on what heads really read, the residual stream, whatever the rows of a head were read under
(docs/method.md, "Testing a description"). phi of a set of pairs is the mean over its pairs of "hit or not", and a hit
depends on the head, the pair and k alone. So hits are kept pair by pair for all heads: the same operation claimed for
forty heads, each with other sources left out, costs one pass over the layers for the union of its pairs instead of
forty. Memory: two bytes a pair and head.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

import torch
from torch import Tensor

from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairScores, PairSet, in_parts
from maps_engine.results import HeadMapping, MappingRow

ENTRIES_AT_ONCE: Final = 60_000  # (source, target) entries of one pass: a few tens of MB of d_h numbers each

_Pair: TypeAlias = tuple[int, tuple[int, ...], int]  # source, accepted targets, k


@dataclass
class PairScorer:
    """The maps engine as several threads share it, with the hits of every pair that was scored.

    One thread works at a time, and takes the pairs of those who wait along. `lock` guards the engine for other uses.
    """

    maps: MapsEngine
    lock: threading.RLock = field(default_factory=threading.RLock)
    _hits: dict[_Pair, Tensor] = field(default_factory=dict, repr=False)
    _waiting: list[PairSet] = field(default_factory=list, repr=False)
    _gate: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def source(self) -> str:
        """What pairs are scored under."""
        return self.maps.truest

    def prepare(self, pair_sets: Iterable[PairSet]) -> int:
        """Score all pairs that are not known yet, in one pass over the model; returns how many there were."""
        with self.lock:
            missing = [pair for pair in dict.fromkeys(_pairs_of(pair_sets)) if pair not in self._hits]
            for part in in_parts(missing, lambda pair: len(pair[1]), at_most=ENTRIES_AT_ONCE):
                self._score(part)
        return len(missing)

    def score(self, pairs: PairSet) -> PairScores:
        """phi and suppression score of the set on all heads, each (L, H), as the engine's, equal to the last bit."""
        share = self.hits(pairs).sum(dim=0, dtype=torch.float32) / max(1, len(pairs.sources))
        return PairScores(share[0], share[1])

    def hits(self, pairs: PairSet) -> Tensor:
        """Whether each pair is promoted, and suppressed, by each head: bool of shape (pairs, 2, L, H)."""
        with self._gate:
            self._waiting.append(pairs)
        with self.lock:
            with self._gate:
                together, self._waiting = self._waiting, []
            self.prepare(together)
        shape = self.maps.shape
        known = [self._hits[pair] for pair in _pairs_of([pairs])]
        return torch.stack(known) if known else torch.zeros(0, 2, shape.n_layers, shape.n_heads, dtype=torch.bool)

    def rows_of(self, mapping: HeadMapping, ids: Sequence[int]) -> tuple[MappingRow, ...]:
        """Rows of given tokens on the head of `mapping`, read as pairs are scored."""
        with self.lock:
            return self.maps.at(self.source).rows_of(mapping.layer, mapping.head, ids)

    def _score(self, pairs: Sequence[_Pair]) -> None:
        singles = [PairSet((s,), (targets,), k) for s, targets, k in pairs]
        for pair, one in zip(pairs, self.maps.score_pairs(singles, source=self.source), strict=True):
            self._hits[pair] = torch.stack([one.score, one.suppression]) > 0.5


def _pairs_of(pair_sets: Iterable[PairSet]) -> Iterator[_Pair]:
    for one in pair_sets:
        for source, targets in zip(one.sources, one.targets, strict=True):
            yield source, targets, one.k
