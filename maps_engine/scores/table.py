"""All operations against all heads of a model (docs/method.md, "Operation to heads: the relation score")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.encoding import EncodedRelation, TargetRule, encode_relation
from maps_engine.relations.format import Relation
from maps_engine.relations.significance import Significance, both_sides, shuffled
from maps_engine.relations.thresholds import MIN_PAIRS
from maps_engine.results import EngineSettings


@dataclass(frozen=True)
class RelationScores:
    """One operation on every head; scores are None where the vocabulary leaves too few pairs."""

    name: str
    category: str
    description: str
    k: int
    n_pairs: int
    n_used: int
    target: TargetRule
    dropped: tuple[tuple[str, int], ...] = ()  # why pairs were left out, and how many
    score: Tensor | None = None  # (L, H) phi
    suppression: Tensor | None = None  # (L, H) phi on -M
    promoting: Significance | None = None
    suppressing: Significance | None = None
    own: bool = False  # the user's pairs

    @property
    def left_out(self) -> str:
        """Why pairs were left out, in words: "reason: pairs; reason: pairs", or empty."""
        return "; ".join(f"{reason}: {n}" for reason, n in self.dropped)

    @property
    def verdict(self) -> str:
        """ "scored", or why not."""
        return "scored" if self.score is not None else f"too few pairs ({self.n_used} of {self.n_pairs})"


@dataclass(frozen=True)
class ModelScores:
    """Every operation on every head of one model; `reading` says in words what heads were given to read."""

    model: str
    fingerprint: str
    source: str
    n_layers: int
    n_heads: int
    n_value_heads: int
    relations: tuple[RelationScores, ...]
    min_pairs: int = MIN_PAIRS
    lead_in: tuple[str, ...] = ("",)  # under `residual`

    @property
    def reading(self) -> str:
        """The source representation, and under `residual` what is read before each token."""
        return EngineSettings(self.source, lead_in=self.lead_in).reading

    @property
    def scored(self) -> tuple[RelationScores, ...]:
        """The operations with enough pairs."""
        return tuple(one for one in self.relations if one.score is not None)

    @property
    def too_few(self) -> tuple[RelationScores, ...]:
        """The operations with too few pairs."""
        return tuple(one for one in self.relations if one.score is None)

    def stacked(self) -> Tensor:
        """(R, L, H): phi of the scored operations."""
        if not self.scored:
            return torch.zeros(0, self.n_layers, self.n_heads)
        return torch.stack([one.score for one in self.scored if one.score is not None])


def score_relations(
    engine: MapsEngine,
    relations: Sequence[Relation],
    *,
    source: str | None = None,
    k: int | None = None,
    min_pairs: int = MIN_PAIRS,
    target: TargetRule = "single",
    progress: Callable[[int], None] | None = None,
) -> ModelScores:
    """Score `relations` on every head, with the shuffled null in the same pass over the layers.

    source: instead of what the engine takes for scores (`MapsEngine.for_scores`). k: overrides each relation's own (the
    paper: 25 for large vocabularies). progress: called with the layer that is done. Raises UserMistake for numbers
    below 1, an unknown source or rule for targets.
    """
    for what, value in (("k", k), ("min_pairs", min_pairs)):
        if value is not None and value < 1:
            raise UserMistake(f"{what} cannot be below 1", got=value, expected="a whole number from 1")
    encoded = [encode_relation(one, engine.checkpoint.vocabulary, target=target) for one in relations]
    rows = tuple(_unscored(one, form, k or one.k) for one, form in zip(relations, encoded, strict=True))
    return _score_under(engine, engine.for_scores(source), rows, encoded, min_pairs, progress)


def _unscored(relation: Relation, encoded: EncodedRelation, k: int) -> RelationScores:
    return RelationScores(
        relation.name,
        relation.category,
        relation.description,
        k,
        encoded.n_pairs,
        encoded.n_used,
        encoded.target,
        encoded.dropped,
        own=relation.own,
    )


def _score_under(
    engine: MapsEngine,
    source: str,
    rows: Sequence[RelationScores],
    encoded: Sequence[EncodedRelation],
    min_pairs: int,
    progress: Callable[[int], None] | None,
) -> ModelScores:
    kept = [i for i, one in enumerate(rows) if one.n_used >= min_pairs]
    real = [PairSet(encoded[i].source_ids, encoded[i].target_ids, rows[i].k) for i in kept]
    null = [shuffled(one) for one in real]
    found = engine.score_pairs([*real, *null], source=source, progress=progress) if real else []
    results = list(rows)
    for position, i in enumerate(kept):
        scores, of_null = found[position], found[len(real) + position]
        sides = both_sides(scores, of_null, n=rows[i].n_used, n_null=len(null[position].sources))
        results[i] = replace(
            rows[i],
            score=scores.score,
            suppression=scores.suppression,
            promoting=sides[0],
            suppressing=sides[1],
        )
    shape, checkpoint = engine.shape, engine.checkpoint
    return ModelScores(
        checkpoint.name,
        checkpoint.fingerprint,
        source,
        shape.n_layers,
        shape.n_heads,
        shape.n_value_heads,
        tuple(results),
        min_pairs,
        engine.settings.lead_in,
    )
