"""Scores of pairs on all heads of a model, every pair scored once, however many heads' descriptions predict it.

Pairs are scored on what heads really read, the residual stream, whatever the rows of a head were read under
(docs/method.md, "Testing a description"). phi of a set of pairs is the mean over its pairs of "hit or not", and a hit
depends on the head, the pair and k alone. So hits are kept pair by pair for all heads: the same operation claimed for
forty heads, each with other sources left out, costs one pass over the layers for the union of its pairs instead of
forty. Memory: a byte a pair and head.

A pair with many acceptable targets, as in claims of classes, is decided by the k strongest targets of its source, which
are found once for all such pairs; one with few by counting the entries that exceed its target's.

With a folder, hits are kept on disk too (`agent.checks.kept_hits`): a run that goes on after a stop, a second process
or another describer scores new pairs alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from agent.checks.kept_hits import KeptHits, Pair
from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairSet, in_parts
from maps_engine.ov.source_maps import HeadKey
from maps_engine.relations.thresholds import DEFAULT_K
from maps_engine.results import HeadMapping, MappingRow

WIDE: Final = 24  # targets of a pair, from which on the strongest ones of its source are looked for
ENTRIES_AT_ONCE: Final = 60_000  # (source, target) entries of one pass: a few tens of MB of d_h numbers each


@dataclass
class PairScorer:
    """The maps engine as several threads share it, with the hits of every pair that was scored.

    One thread works at a time, and takes the pairs of those who wait along. `lock` guards the engine for other uses.
    """

    maps: MapsEngine
    folder: Path | None = None  # for what is kept from one process to the next
    lock: threading.RLock = field(default_factory=threading.RLock)
    _hits: dict[Pair, Tensor] = field(default_factory=dict, repr=False)
    _strongest: dict[int, Tensor] = field(default_factory=dict, repr=False)  # (L, H, k) by source
    _waiting: list[PairSet] = field(default_factory=list, repr=False)
    _gate: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def source(self) -> str:
        """What pairs are scored under."""
        return self.maps.truest

    def prepare(self, pair_sets: Iterable[PairSet]) -> int:
        """Score all pairs that are not known yet, in one pass over the model; returns how many there were."""
        with self.lock:
            missing = self._missing(pair_sets)
            narrow, wide = ([p for p in missing if (len(p[1]) >= WIDE) == is_wide] for is_wide in (False, True))
            for part in in_parts(narrow, lambda pair: len(pair[1]), at_most=ENTRIES_AT_ONCE):
                self._score(part)
            self._score_wide(wide)
            if missing and self._kept is not None:
                self._kept.write({pair: self._hits[pair] for pair in missing})
        return len(missing)

    def knows(self, pair_sets: Iterable[PairSet]) -> bool:
        """Whether all pairs are scored: by this process, or kept by an earlier one."""
        with self.lock:
            return not self._missing(pair_sets)

    def score(self, pairs: PairSet) -> Tensor:
        """phi of the set on all heads, (L, H), as the engine's."""
        return self.hits(pairs).sum(dim=0, dtype=torch.float32) / max(1, len(pairs.sources))

    def hits(self, pairs: PairSet) -> Tensor:
        """Whether each pair is promoted by each head: bool of shape (pairs, L, H)."""
        with self._gate:
            self._waiting.append(pairs)
        with self.lock:
            with self._gate:
                together, self._waiting = self._waiting, []
            self.prepare(together)
        shape = self.maps.shape
        known = [self._hits[pair] for pair in _pairs_of([pairs])]
        return torch.stack(known) if known else torch.zeros(0, shape.n_layers, shape.n_heads, dtype=torch.bool)

    def rows_of(
        self, mapping: HeadMapping, ids: Sequence[int], *, targets: int | None = None
    ) -> tuple[MappingRow, ...]:
        """Rows of given tokens on the head of `mapping`, read as pairs are scored; `targets` as the settings say."""
        place = mapping.layer, mapping.head
        with self.lock:
            return self.maps.at(self.source).rows_of_heads({place: ids}, targets=targets)[place]

    def rows_of_heads(self, wanted: Mapping[HeadKey, Sequence[int]]) -> dict[HeadKey, tuple[MappingRow, ...]]:
        """The same for many heads, each with its own tokens, with as many targets as a pair may hit."""
        with self.lock:
            return self.maps.at(self.source).rows_of_heads(wanted, targets=DEFAULT_K)

    @cached_property
    def reading(self) -> list[Any]:
        """What decides the hit of a pair besides the pair, as JSON values."""
        own = self.maps
        read = replace(own.settings, source=self.source).to_json()
        listed = ("top", "targets", "words", "include_special")  # of rows, not of pairs
        weights = own.checkpoint.weights
        return [own.checkpoint.fingerprint, str(weights.dtype), {k: v for k, v in read.items() if k not in listed}]

    @cached_property
    def _kept(self) -> KeptHits | None:
        shape = self.maps.shape
        if self.folder is None:
            return None
        return KeptHits(self.folder, self.reading, n_layers=shape.n_layers, n_heads=shape.n_heads)

    def _missing(self, pair_sets: Iterable[PairSet]) -> list[Pair]:
        """The pairs that are neither in memory nor kept; those that are kept are in memory then."""
        missing = [pair for pair in dict.fromkeys(_pairs_of(pair_sets)) if pair not in self._hits]
        if missing and self._kept is not None:
            self._hits.update(self._kept.read(missing))
            missing = [pair for pair in missing if pair not in self._hits]
        return missing

    def _score(self, pairs: Sequence[Pair]) -> None:
        singles = [PairSet((s,), (targets,), k) for s, targets, k in pairs]
        for pair, one in zip(pairs, self.maps.score_pairs(singles, source=self.source), strict=True):
            self._hits[pair] = one.score > 0.5

    def _score_wide(self, pairs: Sequence[Pair]) -> None:
        most: dict[int, int] = {}
        for source, _, k in pairs:
            most[source] = max(k, DEFAULT_K, most.get(source, 0))
        unread = {source: k for source, k in most.items() if k > self._known_targets(source)}
        for k in set(unread.values()):
            sources = sorted(source for source, wanted in unread.items() if wanted == k)
            targets = self.maps.at(self.source).strongest(sources, k=k)
            self._strongest.update({source: targets[:, :, i].clone() for i, source in enumerate(sources)})
        accepted = {targets: torch.tensor(targets) for _, targets, _ in pairs}
        for pair in pairs:
            source, wanted, k = pair
            self._hits[pair] = torch.isin(self._strongest[source][..., :k], accepted[wanted]).any(dim=-1)

    def _known_targets(self, source: int) -> int:
        """How many of a source's strongest targets are known."""
        return self._strongest[source].shape[-1] if source in self._strongest else 0


def _pairs_of(pair_sets: Iterable[PairSet]) -> Iterator[Pair]:
    for one in pair_sets:
        for source, targets in zip(one.sources, one.targets, strict=True):
            yield source, targets, one.k
