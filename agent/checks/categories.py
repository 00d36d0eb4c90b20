"""The category of a description's operation: the paper's four where it has one, for colours and summaries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from agent.checks.claims import ClaimedClass, ClaimedFields, ClaimedForm, ClaimedRelation, claimed_operation
from agent.results.reports import HeadReport
from agent.words.forms import FORMS, PREFIXES, RELATED
from maps_engine.relations.catalogue import Relation, load_relations

CATEGORIES: Final = ("algorithmic", "knowledge", "linguistic", "translation", "word fields", "other")
_PREFIXED: Final = {f"word to its {prefix}- form" for prefix in PREFIXES}
_LINGUISTIC_FORMS: Final = frozenset(
    form.name for form in FORMS if RELATED in (form.name, form.general) or form.name in _PREFIXED
)
_TRANSLATING_FORMS: Final = frozenset({"word to another script"})


def category_of_report(report: HeadReport, relations: Sequence[Relation]) -> str | None:
    """The category that is stored with a result; None for a description that names nothing."""
    said = report.description
    return category_of(said.operation, relations) if said.status == "ok" else None


def category_of(operation: str, relations: Sequence[Relation]) -> str:
    """One of CATEGORIES, or a relation's own category.

    Operations of form are algorithmic, unless they inflect or derive a word (linguistic) or change its script
    (translation). Labelled fields and classes of characters are "word fields"; free text is "other", or linguistic
    where it names related words.
    """
    claim = claimed_operation(operation, relations)
    if isinstance(claim, ClaimedRelation):
        return claim.relation.category
    if isinstance(claim, ClaimedFields | ClaimedClass):
        return "word fields"
    if isinstance(claim, ClaimedForm):
        if claim.form.name in _TRANSLATING_FORMS:
            return "translation"
        return "linguistic" if claim.form.name in _LINGUISTIC_FORMS else "algorithmic"
    return "linguistic" if operation.casefold().endswith("to related words") else "other"


@lru_cache(4096)
def built_in_category(operation: str) -> str:
    """`category_of` by the built-in relations; in whatever case the operation is written."""
    return category_of(operation, load_relations())
