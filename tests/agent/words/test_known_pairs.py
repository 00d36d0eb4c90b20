"""Labels in a model's own words beside the names of known operations."""

import pytest

from agent.words.known_pairs import known_name, label_of
from maps_engine.relations.catalogue import load_relations


@pytest.mark.parametrize(
    ("label", "known"),
    [
        ("name to pronoun", "first name to pronoun"),
        ("Names to pronouns", "first name to pronoun"),
        ("name-to-pronoun", "first name to pronoun"),
        ("a country to its currency", "country to currency"),
        ("countries to capitals", "country to capital"),
        ("nationality-to-country", "nationality-to-country"),  # known as it stands, though others are alike
    ],
)
def test_a_known_operation_in_other_words_gets_its_name(label, known):
    assert known_name(label, load_relations()) == known


@pytest.mark.parametrize(
    "label",
    [
        "word to letter",  # the first or the last: two operations
        "word to related word",  # of words of faith alone, in the catalogue
        "word to word",
        "words to other words",
        "female first name to pronoun",  # says more than the operation
        "letter to another letter",
        "months to other months",
        "unit to unit",
        "noun",
        "to",
        "a to b to c",
        "",
        "unclear",
    ],
)
def test_others_stay_as_they_are(label):
    assert known_name(label, load_relations()) == label


def test_every_known_operation_keeps_its_name():
    relations = load_relations()
    for one in relations:
        assert known_name(label_of(one.name), relations) == label_of(one.name)
        assert known_name(one.name, relations) == one.name
