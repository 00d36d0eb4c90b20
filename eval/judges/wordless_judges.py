"""The judges that need no language model; `eval.judges.protocol` says what each can see."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from agent.checks.claims import ClaimedFields, ClaimedForm, ClaimedOperation, claimed_operation
from agent.results import HeadDescription
from agent.runs.identity import content_hash
from agent.words.embedder import Vectors
from agent.words.fields import SemanticFields
from agent.words.forms import FORM_BY_NAME
from agent.words.known_pairs import label_of
from agent.words.spelling import core
from eval.judges.said import Said
from maps_engine.relations.catalogue import Relation
from maps_engine.results import MappingRow
from prompts import load_prompts

VERSION: Final = 1
LIKENESS: Final = 0.04  # weight of the cosine beside a claim: less than any step of the claim, so it only breaks ties
NONE_FITS, SOME_FIT = 0.45, 0.55  # bases of a rating under a claim; 0.5 decides
PARTLY: Final = 0.5  # credit for a pair of the wider operation: an exact copy under "copying with case variants"
NEAR_OPERATION: Final = 0.5  # cosine from which on a text is taken to mean a known relation
RELATED: Final = "word to related words"
_COUNTS = re.compile(r"\((?:known pairs|[^()]*\d+ of \d+)[^()]*\)")

Fit = Callable[[str, MappingRow], float]  # target text, its row -> 0 … 1


class EmbeddingJudge:
    """Cosine of texts."""

    name = "embedding"
    asks_a_model = False

    def __init__(self, fields: SemanticFields, relations: Sequence[Relation]) -> None:
        self._fields = fields
        self._relations = [one for one in relations if one.pairs and not one.identity]

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"version": VERSION, "embedder": self._fields.embedder_name, "relations": _relations_hash(self)}

    def decides(self, said: Said) -> bool:
        """Never: a cosine of texts has no natural zero."""
        return False

    def rate_rows(self, said: Said, rows: Sequence[MappingRow]) -> list[float]:
        """(1 + cosine) / 2 of the description and each row."""
        texts = [f"{row.token.strip()} -> {', '.join(t.token.strip() for t in row.targets)}" for row in rows]
        return [float(value) for value in (1 + self._alike(said.text, texts)) / 2]

    find_intruder = rate_rows
    rate_targets = rate_rows

    def propose_pairs(self, description: HeadDescription, *, n: int, excluded: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs of the known relation whose name and sentence are nearest, where one is near."""
        texts = [f"{label_of(one.name)}. {one.description}" for one in self._relations]
        said = replace(Said.of(description), input_strings="")
        alike = self._alike(said.text, texts)
        best = int(alike.argmax()) if len(alike) else -1
        if best < 0 or alike[best] < NEAR_OPERATION:
            return []
        left = set(excluded)
        pairs = [(s, t) for s, targets in self._relations[best].pairs if core(s) not in left for t in targets[:1]]
        return pairs[:n]

    def _alike(self, text: str, others: Sequence[str]) -> Vectors:
        """(n,) cosines."""
        vectors = self._fields.vectors([_COUNTS.sub("", text), *others])
        alike: Vectors = vectors[1:] @ vectors[0]
        return alike

    @property
    def relations(self) -> Sequence[Relation]:
        return self._relations


class LexicalJudge:
    """Claims where the description names an operation, MiniLM for the rest."""

    name = "lexical"
    asks_a_model = False

    def __init__(self, fields: SemanticFields, relations: Sequence[Relation], embedding: EmbeddingJudge) -> None:
        self._fields, self._relations, self._embedding = fields, tuple(relations), embedding
        words = load_prompts().field_labels
        self._label_of = {frozenset(map(core, members)): label for label, members in words.items()}
        self._claims: dict[str, ClaimedOperation | None] = {}

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**self._embedding.settings, "field_labels": load_prompts().field_labels_version}

    def decides(self, said: Said) -> bool:
        """Where the description names an operation that can be checked."""
        return self._claim(said) is not None

    def rate_rows(self, said: Said, rows: Sequence[MappingRow]) -> list[float]:
        """By the share of targets that satisfy the claim; the cosine of texts breaks ties."""
        alike = self._embedding.rate_rows(said, rows)
        fit = self._fit(said)
        if fit is None:
            return alike
        return [_rating([fit(t.token, row) for t in row.targets], near) for row, near in zip(rows, alike, strict=True)]

    find_intruder = rate_rows
    rate_targets = rate_rows

    def propose_pairs(self, description: HeadDescription, *, n: int, excluded: Sequence[str]) -> list[tuple[str, str]]:
        """Asked for free text alone; what names an operation makes its own pairs."""
        return self._embedding.propose_pairs(description, n=n, excluded=excluded)

    def _fit(self, said: Said) -> Fit | None:
        if " ".join(said.operation.casefold().split()) == RELATED:
            return self._related
        claim = self._claim(said)
        if claim is None:
            return None
        if isinstance(claim, ClaimedFields):
            return self._of_fields(claim)
        wider = FORM_BY_NAME.get(claim.form.general) if isinstance(claim, ClaimedForm) else None

        def fit(target: str, row: MappingRow) -> float:
            if claim.satisfied(_alone(target, row)):
                return 1.0
            return PARTLY if wider is not None and wider.holds(row.token, target) else 0.0

        return fit

    def _claim(self, said: Said) -> ClaimedOperation | None:
        if said.operation not in self._claims:
            self._claims[said.operation] = claimed_operation(said.operation, self._relations)
        return self._claims[said.operation]

    def _of_fields(self, claim: ClaimedFields) -> Fit:
        """Targets of the field, by word or by nearness; half for sources outside the claimed field of inputs."""
        makes, reads = self._members(claim.targets), self._members(claim.sources)

        def fit(target: str, row: MappingRow) -> float:
            if core(target) == core(row.token) or not makes(target):
                return 0.0
            return 1.0 if not claim.sources or reads(row.token) else PARTLY

        return fit

    def _members(self, words: frozenset[str]) -> Callable[[str], bool]:
        label = self._label_of.get(words)
        place = self._fields.labels.index(label) if label in self._fields.labels else None

        def holds(token: str) -> bool:
            return core(token) in words or (place is not None and bool(self._fields.members([token])[0, place]))

        return holds

    def _related(self, target: str, row: MappingRow) -> float:
        """Cosine of source and target, copies aside."""
        if not core(target) or not core(row.token) or core(target) == core(row.token):
            return 0.0
        source, made = self._fields.vectors([core(row.token), core(target)])
        return max(0.0, float(np.dot(source, made)))


def _rating(fits: Sequence[float], near: float) -> float:
    share = sum(fits) / len(fits) if fits else 0.0
    base = SOME_FIT + (1 - SOME_FIT - LIKENESS) * share if share > 0 else NONE_FITS
    return base + LIKENESS * near


def _alone(target: str, row: MappingRow) -> MappingRow:
    return replace(row, targets=tuple(t for t in row.targets if t.token == target)[:1])


def _relations_hash(judge: EmbeddingJudge) -> str:
    return content_hash([[one.name, one.description, one.pairs] for one in judge.relations])[:12]
