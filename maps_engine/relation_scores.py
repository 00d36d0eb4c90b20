"""All operations against all heads of a model: the table of question (a)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maps_engine.engine import MapsEngine
from maps_engine.relation_encoding import EncodedRelation, TargetRule, encode_relation
from maps_engine.relation_format import Relation
from maps_engine.relations import PairSet
from maps_engine.significance import Significance, both_sides, shuffled

MIN_PAIRS = 30


@dataclass(frozen=True)
class RelationScores:
    """One operation on every head; scores are None where the vocabulary leaves too few pairs."""

    relation: Relation
    encoded: EncodedRelation
    k: int
    score: Tensor | None = None  # (L, H) phi
    suppression: Tensor | None = None  # (L, H) phi on -M
    promoting: Significance | None = None
    suppressing: Significance | None = None

    @property
    def name(self) -> str:
        return self.relation.name

    @property
    def verdict(self) -> str:
        """ "scored", or why not."""
        if self.score is not None:
            return "scored"
        return f"too few pairs ({self.encoded.n_used} of {self.encoded.n_pairs})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; tables are [layer][head]."""
        return {
            "name": self.name,
            "category": self.relation.category,
            "k": self.k,
            "pairs": self.encoded.n_pairs,
            "used": self.encoded.n_used,
            "target": self.encoded.target,
            "verdict": self.verdict,
            "scores": _table(self.score),
            "suppression": _table(self.suppression),
            "null": _table(self.promoting.null if self.promoting else None),
            "p": _table(self.promoting.p if self.promoting else None, digits=None),
            "suppression_p": _table(self.suppressing.p if self.suppressing else None, digits=None),
        }


@dataclass(frozen=True)
class ModelScores:
    """Every operation on every head of one model under one source representation."""

    model: str
    fingerprint: str
    source: str
    n_layers: int
    n_heads: int
    n_value_heads: int
    relations: tuple[RelationScores, ...]

    @property
    def scored(self) -> tuple[RelationScores, ...]:
        """The operations with enough pairs."""
        return tuple(one for one in self.relations if one.score is not None)

    def stacked(self) -> Tensor:
        """(R, L, H): phi of the scored operations."""
        if not self.scored:
            return torch.zeros(0, self.n_layers, self.n_heads)
        return torch.stack([one.score for one in self.scored if one.score is not None])

    def to_json(self) -> dict[str, Any]:
        """`{model, source, relations: […]}` as plain JSON values."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "source": self.source,
            "layers": self.n_layers,
            "heads": self.n_heads,
            "value_heads": self.n_value_heads,
            "relations": [one.to_json() for one in self.relations],
        }


def score_relations(
    engine: MapsEngine,
    relations: Sequence[Relation],
    *,
    source: str,
    k: int | None = None,
    min_pairs: int = MIN_PAIRS,
    target: TargetRule = "single",
    progress: Callable[[int], None] | None = None,
) -> ModelScores:
    """Score `relations` on every head in one pass over the layers, with the shuffled null in the same pass.

    k: overrides each relation's own k (METHOD: 25 for large vocabularies).
    """
    encoded = [encode_relation(one, engine.checkpoint.vocabulary, target=target) for one in relations]
    kept = [i for i, one in enumerate(encoded) if one.n_used >= max(1, min_pairs)]
    ks = [k or one.k for one in relations]
    real = [PairSet(encoded[i].source_ids, encoded[i].target_ids, ks[i]) for i in kept]
    null = [shuffled(one) for one in real]
    found = engine.score_pairs([*real, *null], source=source, progress=progress) if real else []
    results = {}
    for position, i in enumerate(kept):
        scores, of_null = found[position], found[len(real) + position]
        n_null = len(null[position].sources)
        sides = both_sides(scores, of_null, n=encoded[i].n_used, n_null=n_null)
        results[i] = RelationScores(
            relations[i], encoded[i], ks[i], scores.score, scores.suppression, sides[0], sides[1]
        )
    rows = tuple(results.get(i) or RelationScores(relations[i], encoded[i], ks[i]) for i in range(len(relations)))
    shape, checkpoint = engine.shape, engine.checkpoint
    return ModelScores(
        checkpoint.name, checkpoint.fingerprint, source, shape.n_layers, shape.n_heads, shape.n_value_heads, rows
    )


def _table(values: Tensor | None, *, digits: int | None = 4) -> list[list[float]] | None:
    if values is None:
        return None
    rows: list[list[float]] = values.tolist()
    return rows if digits is None else [[round(x, digits) for x in row] for row in rows]
