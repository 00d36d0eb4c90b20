"""How far a target of a row satisfies the operation that a description names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from agent.checks.claims import ClaimedFields, ClaimedForm, ClaimedOperation, claimed_operation
from agent.words.fields import SemanticFields
from agent.words.forms import FORM_BY_NAME
from agent.words.spelling import core
from eval.judges.said import Said
from maps_engine.relations.catalogue import Relation
from maps_engine.results import MappingRow
from prompts import load_prompts

PARTLY: Final = 0.5  # credit for a pair of the wider operation: an exact copy under "copying with case variants"
RELATED_WORDS: Final = "word to related words"

Fit = Callable[[str, MappingRow], float]  # target text, its row -> 0 … 1


class ClaimedFits:
    """Claims of descriptions, each read once."""

    def __init__(self, fields: SemanticFields, relations: Sequence[Relation]) -> None:
        self._fields, self._relations = fields, tuple(relations)
        words = load_prompts().field_labels
        self._label_of = {frozenset(map(core, members)): label for label, members in words.items()}
        self._known: dict[str, ClaimedOperation | None] = {}

    def claim(self, said: Said) -> ClaimedOperation | None:
        """The operation that the description names; None for free text."""
        if said.operation not in self._known:
            self._known[said.operation] = claimed_operation(said.operation, self._relations)
        return self._known[said.operation]

    def fit(self, said: Said) -> Fit | None:
        """How far a target fits the claim; None for free text."""
        if " ".join(said.operation.casefold().split()) == RELATED_WORDS:
            return self._related
        claim = self.claim(said)
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


def _alone(target: str, row: MappingRow) -> MappingRow:
    """The row with that target and no other."""
    return replace(row, targets=tuple(t for t in row.targets if t.token == target)[:1])
