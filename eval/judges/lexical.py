"""The judge that checks what a description claims; `eval.judges.protocol` says what it can see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from agent.describers.protocol import Proposed
from agent.results.descriptions import HeadDescription
from eval.judges.embedding import EmbeddingJudge
from eval.judges.plain_forms import assess_forms
from eval.judges.protocol import Assessment
from eval.judges.said import Said
from maps_engine.relations.catalogue import Relation
from maps_engine.results import MappingRow
from prompts import load_prompts

if TYPE_CHECKING:
    from agent.words.fields import SemanticFields
    from eval.judges.claimed_fits import ClaimedFits

LIKENESS: Final = 0.04  # weight of the cosine beside a claim: less than any step of the claim, so it only breaks ties
NONE_FITS, SOME_FIT = 0.45, 0.55  # bases of a rating under a claim; 0.5 decides


class LexicalJudge:
    """Claims where the description names an operation, MiniLM for the rest."""

    name = "lexical"
    asks_a_model = False

    def __init__(self, fields: Callable[[], SemanticFields], relations: Callable[[], Sequence[Relation]]) -> None:
        self._embedding, self._load_relations = EmbeddingJudge(fields, relations), relations

    @cached_property
    def _claims(self) -> ClaimedFits:
        from eval.judges.claimed_fits import ClaimedFits  # needs torch, which the questions of a study do not

        return ClaimedFits(self._embedding.fields, self._load_relations())

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**self._embedding.settings, "field_labels": load_prompts().field_labels_version}

    def decides(self, said: Said) -> bool:
        """Where the description names an operation that can be checked."""
        return self._claims.claim(said) is not None

    def rate_rows(self, said: Said, rows: Sequence[MappingRow]) -> list[float]:
        """By the share of targets that satisfy the claim; the cosine of texts breaks ties."""
        alike = self._embedding.rate_rows(said, rows)
        fit = self._claims.fit(said)
        if fit is None:
            return alike
        return [_rating([fit(t.token, row) for t in row.targets], near) for row, near in zip(rows, alike, strict=True)]

    find_intruder = rate_rows
    rate_targets = rate_rows

    def propose_pairs(self, description: HeadDescription, *, n: int, excluded: Sequence[str]) -> Proposed:
        """Asked for free text alone; what names an operation makes its own pairs."""
        return self._embedding.propose_pairs(description, n=n, excluded=excluded)

    def assess(self, said: Said, rows: Sequence[MappingRow], tested: Sequence[MappingRow] = ()) -> Assessment:
        """By form alone: people are shown no label, so there is no claim to check."""
        pattern = assess_forms(said, rows)
        return replace(pattern, plausible=assess_forms(said, tested).plausible) if tested else pattern


def _rating(fits: Sequence[float], near: float) -> float:
    share = sum(fits) / len(fits) if fits else 0.0
    base = SOME_FIT + (1 - SOME_FIT - LIKENESS) * share if share > 0 else NONE_FITS
    return base + LIKENESS * near
