"""What the known operations' own pairs say of every head, before a row of it is read.

A part of each operation's pairs, and the same sources with each other's targets, are scored on all heads of the model
once. An operation is offered for a head by a rule somewhat milder than that of tests; its other pairs are left for the
test (`agent.checks.claims.ClaimedRelation`), so what is chosen here is not tested on what chose it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from agent.checks.claims import choosing_pairs
from agent.checks.controls import FEWEST, mixed_pairs
from agent.checks.new_pairs import percentiles
from agent.checks.pair_scorer import PairScorer
from agent.results import KnownScore
from maps_engine.files import write_whole
from maps_engine.fitting import fits
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import Relation
from maps_engine.relations.thresholds import TAU

OFFERED: Final = 90.0  # percentile among the other heads
ABOVE: Final = 0.075  # phi of the mixed pairs; half of tau


@dataclass(frozen=True)
class _Choosing:
    """The pairs of one operation by which heads are chosen, and the mixed ones."""

    relation: Relation
    pairs: PairSet
    mixed: PairSet


@dataclass
class CatalogueScores:
    """Which of `relations` each head of the scorer's model does, by a part of their pairs; scored when first asked for.

    `folder` keeps the table from one process to the next. Nothing is offered where the pairs would take longer to pass
    the blocks than a head's own reading may (`maps_engine.fitting`).
    """

    scorer: PairScorer
    relations: Sequence[Relation]
    folder: Path | None = None

    def of_head(self, layer: int, head: int) -> tuple[KnownScore, ...]:
        """Operations that pass on this head, the one furthest above its mixed pairs first."""
        found = []
        for one in self._choosing:
            score, shuffled, percentile = (float(part[layer, head]) for part in self._tables[one.relation.name])
            if score >= TAU and percentile >= OFFERED and score - shuffled >= ABOVE:
                n = len(one.pairs.sources)
                found.append(KnownScore(one.relation.name, score, shuffled, percentile, n, one.pairs.k))
        return tuple(sorted(found, key=lambda known: (known.shuffled - known.score, known.operation)))

    @property
    def is_scored(self) -> bool:
        """Whether what `of_head` needs is there: scored by this process, or kept by an earlier one."""
        return "_tables" in self.__dict__ or self._kept() is not None

    @cached_property
    def _choosing(self) -> tuple[_Choosing, ...]:
        """Operations with enough pairs; none where scoring them is dear."""
        vocabulary = self.scorer.maps.checkpoint.vocabulary
        made = [(one, choosing_pairs(one, vocabulary)) for one in self.relations]
        found = tuple(_Choosing(one, pairs, mixed_pairs(pairs)) for one, pairs in made if len(pairs.sources) >= FEWEST)
        sources = {s for one in found for s in one.pairs.sources}
        return found if fits(len(sources), self.scorer.maps.settings, self.scorer.maps.checkpoint) else ()

    @cached_property
    def _tables(self) -> Mapping[str, tuple[Tensor, Tensor, Tensor]]:
        """phi, phi of mixed pairs (0 where they say nothing), the percentile among all heads, each (L, H)."""
        counts = self._kept() or self._scored()
        found = {}
        for one in self._choosing:
            real, mixed = (torch.tensor(part, dtype=torch.float64) for part in counts[one.relation.name])
            phi, n_mixed = real / len(one.pairs.sources), len(one.mixed.sources)
            null = mixed / n_mixed if n_mixed >= FEWEST else torch.zeros_like(phi)
            found[one.relation.name] = phi, null, percentiles(phi)
        return found

    def _scored(self) -> dict[str, Any]:
        """Hits of the pairs and of the mixed ones on every head, by operation."""
        self.scorer.prepare([part for one in self._choosing for part in (one.pairs, one.mixed)])
        counts = {
            one.relation.name: [self.scorer.hits(part).sum(dim=0).tolist() for part in (one.pairs, one.mixed)]
            for one in self._choosing
        }
        if (path := self._path) is not None:
            write_whole(path, json.dumps(counts), parents=True, next_step="Clear the cache folder, or name another.")
        return counts

    def _kept(self) -> dict[str, Any] | None:
        """The hits of an earlier process; None where there are none that are whole."""
        shape = self.scorer.maps.shape
        if self._path is None:
            return None
        with suppress(OSError, ValueError, KeyError, TypeError):
            counts = json.loads(self._path.read_text("ascii"))
            sizes = {tuple(torch.tensor(counts[one.relation.name]).shape) for one in self._choosing}
            if sizes <= {(2, shape.n_layers, shape.n_heads)}:
                return dict(counts)
        return None

    @property
    def _path(self) -> Path | None:
        if self.folder is None:
            return None
        maps = self.scorer.maps
        pairs = [[one.relation.name, one.pairs.k, one.pairs.sources, one.pairs.targets] for one in self._choosing]
        read = [maps.checkpoint.fingerprint, self.scorer.source, list(maps.settings.lead_in), maps.settings.centred]
        key = hashlib.sha256(json.dumps([read, pairs]).encode()).hexdigest()
        return self.folder / "catalogue-scores" / f"{key[:32]}.json"
