"""Categories of operations: the paper's four where an operation has one."""

from __future__ import annotations

import pytest

from agent.checks.categories import category_of
from agent.words.forms import CUT_SUFFIXES, PREFIXES, RELATED, SUFFIXES
from maps_engine.relations.catalogue import load_relations


@pytest.mark.parametrize(
    "operation",
    [
        RELATED,
        *(f"word to its -{suffix} form" for suffix in SUFFIXES),
        *(f"-{suffix} form to its base word" for suffix in CUT_SUFFIXES),
        *(f"word to its {prefix}- form" for prefix in PREFIXES),
        "singular to plural",
        "plural to singular",
        "word to related words",
        "nouns to related words",
    ],
)
def test_other_forms_of_a_word_are_linguistic(operation: str) -> None:
    assert category_of(operation, ()) == "linguistic"


@pytest.mark.parametrize(
    "operation", ["copying", "word to first letter", "word to upper case", "number to following number"]
)
def test_operations_on_letters_and_numbers_are_algorithmic(operation: str) -> None:
    assert category_of(operation, ()) == "algorithmic"


def test_what_is_no_form_has_a_category_too() -> None:
    relations = load_relations()
    assert category_of("word to another script", ()) == "translation"
    assert category_of("names of rivers, loosely", relations) == "other"
    assert {category_of(one.name, relations) for one in relations} == {one.category for one in relations}
