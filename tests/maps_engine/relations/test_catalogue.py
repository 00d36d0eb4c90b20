"""The built-in operations: what is there, in which order, and what a wrong name says."""

from __future__ import annotations

from collections import Counter
from dataclasses import FrozenInstanceError
from importlib.resources import files

import pytest

from maps_engine.errors import UserMistake
from maps_engine.relations.catalogue import Relation, load_relations
from maps_engine.relations.format import CATEGORIES
from tests.support.catalogue_rules import validate
from tests.support.relation_files import format_relation

ALL = load_relations()
BY_NAME = {relation.name: relation for relation in ALL}
PAPER = {
    "algorithmic": "copying name-copying word-to-first-letter word-to-last-letter year-to-following",
    "knowledge": "country-to-capital country-to-language object-to-superclass product-to-company work-to-location",
    "linguistic": "adjective-to-comparative adjective-to-superlative noun-to-pronoun verb-to-past-tense "
    "word-to-antonym word-to-compound word-to-homophone word-to-synonym",
    "translation": "english-to-french english-to-spanish",
}


def test_the_papers_twenty_are_there_in_its_four_categories():
    assert {r.name: r.category for r in ALL if r.paper} == {
        name: category for category, names in PAPER.items() for name in names.split()
    }
    assert set(PAPER) == set(CATEGORIES)


@pytest.mark.parametrize("name", [name for names in PAPER.values() for name in names.split()])
def test_each_of_the_papers_relations_has_100_pairs_or_more(name):
    assert 100 <= BY_NAME[name].n_pairs <= 700


def test_at_least_forty_operations_beyond_the_paper():
    assert len(ALL) - 20 >= 40


def test_order_is_the_papers_first_then_by_name():
    assert [r.name for r in ALL] == sorted(BY_NAME, key=lambda name: (not BY_NAME[name].paper, name))


def test_k_is_one_for_the_two_copying_relations_and_ten_for_the_rest_of_the_paper():
    assert {r.name for r in ALL if r.paper and r.k == 1} == {"copying", "name-copying"}
    assert {r.k for r in ALL if r.paper} == {1, 10}


def test_the_catalogue_is_clean():
    assert validate(ALL) == ()


def test_every_file_holds_the_relation_it_is_named_after_in_the_form_we_write():
    folder = files("maps_engine.relations") / "relation_sets"
    for relation in ALL:
        text = (folder / f"{relation.name}.json").read_text("utf-8")
        assert text == format_relation(relation), relation.name


def test_sentences_and_phrases_tell_the_operations_apart():
    for field in ("description", "name"):
        assert max(Counter(getattr(r, field) for r in ALL).values()) == 1
    assert max(Counter((r.inputs, r.outputs) for r in ALL).values()) == 1


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [
        ("country-to-capital", "France", "Paris"),
        ("place-or-nationality-to-country", "French", "France"),
        ("place-or-nationality-to-country", "Tokyo", "Japan"),
        ("country-to-language", "Belgium", "Dutch"),
        ("verb-to-past-tense", "go", "went"),
        ("verb-to-gerund", "run", "running"),
        ("adjective-to-comparative", "good", "better"),
        ("adjective-to-superlative", "big", "biggest"),
        ("singular-to-plural", "child", "children"),
        ("noun-to-pronoun", "mother", "she"),
        ("word-to-antonym", "hot", "cold"),
        ("word-to-homophone", "sea", "see"),
        ("english-to-french", "house", "maison"),
        ("english-to-spanish", "house", "casa"),
        ("word-to-first-letter", "apple", "a"),
        ("year-to-following", "1999", "2000"),
        ("british-to-american", "colour", "color"),
        ("opening-to-closing-bracket", "([", "])"),
        ("lower-to-capital", "the", "The"),
        ("element-to-symbol", "gold", "Au"),
    ],
)
def test_pairs_known_to_everyone(name, source, target):
    assert target in dict(BY_NAME[name].pairs)[source]


def test_noun_to_pronoun_is_balanced():
    counts = Counter(targets[0] for _, targets in BY_NAME["noun-to-pronoun"].pairs)
    assert set(counts) == {"he", "she", "it", "they"}
    assert max(counts.values()) <= 1.25 * min(counts.values())


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("country-to-capital", "capital-to-country"),
        ("verb-to-gerund", "gerund-to-verb"),
        ("singular-to-plural", "plural-to-singular"),
        ("british-to-american", "american-to-british"),
        ("male-to-female", "female-to-male"),
        ("cardinal-to-ordinal", "ordinal-to-cardinal"),
        ("opening-to-closing-bracket", "closing-to-opening-bracket"),
    ],
)
def test_inverse_relations_agree(there, back):
    inverse = dict(BY_NAME[back].pairs)
    pairs = [(s, t) for s, targets in BY_NAME[there].pairs for t in targets if t in inverse]
    agreeing = sum(s in inverse[t] for s, t in pairs)
    assert len(pairs) >= 20
    assert agreeing / len(pairs) > 0.95


def test_some_names_come_back_in_the_order_asked_for():
    asked = ["word-to-antonym", "copying", "word-to-antonym"]
    assert [r.name for r in load_relations(asked)] == ["word-to-antonym", "copying"]
    assert load_relations("copying") == load_relations(["copying"])
    assert load_relations([]) == ()


def test_loading_is_cached_and_relations_are_frozen():
    first, again = load_relations(["copying"])[0], load_relations(["copying"])[0]
    assert first is again
    with pytest.raises(FrozenInstanceError):
        first.k = 3


@pytest.mark.parametrize(
    ("asked", "close"),
    [
        ("country-to-captial", "country-to-capital"),
        ("Country-To-Capital", "country-to-capital"),
        ("past-tense", "verb-to-past-tense"),
        ("country-capital", "country-to-capital"),
    ],
)
def test_an_unknown_name_lists_close_ones(asked, close):
    with pytest.raises(UserMistake) as caught:
        load_relations([asked])
    assert asked in str(caught.value)
    assert close in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_unknown_names_are_named_at_once():
    with pytest.raises(UserMistake, match="unknown relations: got qqq, zzz") as caught:
        load_relations(["copying", "qqq", "zzz"])
    assert "Did you mean" not in str(caught.value)
    assert "`headscribe operations list` names them all" in str(caught.value)


def test_relation_is_what_the_contract_says():
    relation = BY_NAME["country-to-capital"]
    assert isinstance(relation, Relation)
    assert relation.description == "Maps the name of a country to its capital city."
    assert (relation.inputs, relation.outputs) == ("names of countries", "their capital cities")
    assert all(isinstance(s, str) and isinstance(t, tuple) for s, t in relation.pairs)
    assert relation.source_space
    assert relation.target_space
    assert not BY_NAME["unspaced-to-spaced"].source_space
