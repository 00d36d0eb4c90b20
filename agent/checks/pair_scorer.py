"""Scores of pairs on all heads of a model, every pair scored once, however many heads' descriptions predict it.

phi of a set of pairs is the mean over its pairs of "hit or not", and a hit depends on the head, the pair, k and the
source representation alone. So hits are kept pair by pair for all heads: the same operation claimed for forty heads,
each with other sources left out, costs one pass over the layers for the union of its pairs instead of forty. Memory:
two bytes a pair and head.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import torch
from torch import Tensor

from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairScores, PairSet
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
    _hits: dict[tuple[str, _Pair], Tensor] = field(default_factory=dict, repr=False)
    _waiting: list[tuple[str, PairSet]] = field(default_factory=list, repr=False)
    _gate: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def prepare(self, pair_sets: Mapping[str, Iterable[PairSet]]) -> int:
        """Score all pairs that are not known yet, one pass over the model per source; returns how many there were."""
        found = 0
        with self.lock:
            for source, sets in pair_sets.items():
                missing = [p for p in dict.fromkeys(_pairs_of(sets)) if (source, p) not in self._hits]
                found += len(missing)
                for part in _parts(missing):
                    self._score(part, source)
        return found

    def score(self, pairs: PairSet, *, source: str) -> PairScores:
        """phi and suppression score of the set on all heads, each (L, H), as the engine's, equal to the last bit."""
        share = self.hits(pairs, source=source).sum(dim=0, dtype=torch.float32) / max(1, len(pairs.sources))
        return PairScores(share[0], share[1])

    def hits(self, pairs: PairSet, *, source: str) -> Tensor:
        """Whether each pair is promoted, and suppressed, by each head: bool of shape (pairs, 2, L, H)."""
        with self._gate:
            self._waiting.append((source, pairs))
        with self.lock:
            with self._gate:
                together, self._waiting = self._waiting, []
            by_source: dict[str, list[PairSet]] = {}
            for name, one in together:
                by_source.setdefault(name, []).append(one)
            self.prepare(by_source)
        shape = self.maps.shape
        known = [self._hits[source, pair] for pair in _pairs_of([pairs])]
        return torch.stack(known) if known else torch.zeros(0, 2, shape.n_layers, shape.n_heads, dtype=torch.bool)

    def rows_of(self, mapping: HeadMapping, ids: Sequence[int]) -> tuple[MappingRow, ...]:
        """Rows of given tokens on the head of `mapping`, read through its source representation."""
        with self.lock:
            return self.maps.at(mapping.source).rows_of(mapping.layer, mapping.head, ids)

    def _score(self, pairs: Sequence[_Pair], source: str) -> None:
        singles = [PairSet((s,), (targets,), k) for s, targets, k in pairs]
        for pair, one in zip(pairs, self.maps.score_pairs(singles, source=source), strict=True):
            self._hits[source, pair] = torch.stack([one.score, one.suppression]) > 0.5


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
