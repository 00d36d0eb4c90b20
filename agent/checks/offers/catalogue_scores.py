"""What the known operations' own pairs say of every head, before a row of it is read.

A part of each operation's pairs, and the same sources with each other's targets, are scored on all heads of the model
once. An operation is offered for a head by a rule somewhat milder than that of tests; its other pairs are left for the
test (`agent.checks.claims.ClaimedRelation`), so what is chosen here is not tested on what chose it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from agent.checks.claims import choosing_pairs
from agent.checks.controls import FEWEST, mixed_pairs
from agent.checks.new_pairs import percentiles
from agent.checks.pair_scorer import PairScorer
from agent.results.evidence import KnownScore
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

    Nothing is offered where the pairs would take longer to pass the blocks than a head's own reading may
    (`maps_engine.fitting`).
    """

    scorer: PairScorer
    relations: Sequence[Relation]

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
        return self.scorer.knows(self._sets)

    @cached_property
    def _choosing(self) -> tuple[_Choosing, ...]:
        """Operations with enough pairs; none where scoring them is dear."""
        vocabulary = self.scorer.maps.checkpoint.vocabulary
        made = [(one, choosing_pairs(one, vocabulary)) for one in self.relations]
        found = tuple(_Choosing(one, pairs, mixed_pairs(pairs)) for one, pairs in made if len(pairs.sources) >= FEWEST)
        sources = {s for one in found for s in one.pairs.sources}
        return found if fits(len(sources), self.scorer.maps.settings, self.scorer.maps.checkpoint) else ()

    @property
    def _sets(self) -> list[PairSet]:
        return [part for one in self._choosing for part in (one.pairs, one.mixed)]

    @cached_property
    def _tables(self) -> Mapping[str, tuple[Tensor, Tensor, Tensor]]:
        """phi, phi of mixed pairs (0 where they say nothing), the percentile among all heads, each (L, H)."""
        self.scorer.prepare(self._sets)
        found = {}
        for one in self._choosing:
            phi, null = (self.scorer.score(part).double() for part in (one.pairs, one.mixed))
            if len(one.mixed.sources) < FEWEST:
                null = torch.zeros_like(null)
            found[one.relation.name] = phi, null, percentiles(phi)
        return found
