"""Named classes of words: labelled fields and columns of known operations."""

from agent.words.word_classes import COLUMNS, word_classes, word_classes_version
from maps_engine.relations.catalogue import load_relations
from prompts import load_prompts


def test_columns_name_operations_of_the_catalogue():
    names = {one.name for one in load_relations()}
    parts = [part for columns in COLUMNS.values() for part in columns]
    assert all(part.startswith(">") != part.endswith(">") for part in parts)
    assert {part.strip(">") for part in parts} <= names


def test_every_labelled_field_and_every_named_column_is_a_class():
    fields = load_prompts().field_labels
    assert set(word_classes()) == set(fields) | set(COLUMNS)
    for name, words in fields.items():
        assert {word.strip().casefold() for word in words} - {""} <= word_classes()[name]


def test_columns_hold_what_their_names_say():
    classes = word_classes()
    assert {"dogs", "children"} <= classes["plural nouns"]
    assert "dogs" not in classes["singular nouns"]
    assert {"walked", "went"} <= classes["past tense verbs"]
    assert {"walking"} <= classes["verbs ending in -ing"]
    assert {"better", "larger"} <= classes["comparatives"]
    assert all(len(classes[name]) >= 10 for name in COLUMNS)


def test_the_version_is_fixed_by_content(monkeypatch):
    assert len(word_classes_version()) == 12
    monkeypatch.setattr("agent.words.word_classes.word_classes", lambda: {"one": frozenset({"a"})})
    assert word_classes_version.__wrapped__() != word_classes_version()
