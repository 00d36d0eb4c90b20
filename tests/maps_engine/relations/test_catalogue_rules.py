"""The validator: each rule bites, clean relations pass, and the built-in tokenizer can score the catalogue."""

from __future__ import annotations

import codecs

import pytest

from maps_engine.relations.catalogue import load_relations
from tests.support.catalogue_rules import Problem, one_token_counts, validate
from tests.support.relation_samples import CAPITALS, relation, vocabulary_of

PLENTY = tuple((f"source {word}", (f"target {word}",)) for word in "abcdefghijkl")
CLEAN = relation(PLENTY)


def rules(*relations):
    return {problem.rule for problem in validate(relations)}


def test_a_clean_relation_has_no_problems():
    assert validate([CLEAN]) == ()
    assert validate([]) == ()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"name": "Country To Capital"}, "name is not kebab-case"),
        ({"name": "country-"}, "name is not kebab-case"),
        ({"category": "other"}, "unknown category"),
        ({"description": "Country to capital"}, "description is not one sentence that begins with Maps"),
        ({"description": "Maps a to b. Or not."}, "description is not one sentence that begins with Maps"),
        ({"description": "Maps a to b"}, "description is not one sentence that begins with Maps"),
        ({"inputs": ""}, "inputs is not a short phrase"),
        ({"outputs": "capitals."}, "outputs is not a short phrase"),
        ({"inputs": " names"}, "inputs is not a short phrase"),
        ({"provenance": " "}, "no provenance"),
        ({"licence": "not stated"}, "unknown licence"),
        ({"paper": True}, "too few pairs"),
        ({"k": 0}, "k does not fit"),
    ],
)
def test_fields(fields, rule):
    assert rules(relation(PLENTY, **fields)) == {rule}


def test_names_are_unique():
    assert validate([CLEAN, CLEAN]) == (Problem("country-to-capital", "name is not unique", "2 times"),)


@pytest.mark.parametrize(
    ("pair", "rule"),
    [
        (("source a", ("target a",)), "duplicate pair"),
        (("source a", ("something else",)), "contradicting pairs"),
        (("same", ("same",)), "maps a word to itself"),
        (("same", ("other", "same")), "maps a word to itself"),
        (("x", ("y", "y")), "target named twice"),
        (("", ("y",)), "empty word"),
        (("x", ("",)), "empty word"),
        (("x", ()), "empty word"),
        ((" x", ("y",)), "stray space"),
        (("x", ("a  b",)), "stray space"),
        (("cafe\u0301", ("y",)), "text is not printable NFC"),
        (("x", ("y\u200b",)), "text is not printable NFC"),
        (("x", (codecs.decode("fuvg", "rot13"),)), "unwanted word"),
        ((codecs.decode("Fuvg", "rot13") + " happens", ("y",)), "unwanted word"),
    ],
)
def test_pairs(pair, rule):
    problems = validate([relation((*PLENTY, pair))])
    assert [problem.rule for problem in problems] == [rule]


def test_stray_case_matters_where_words_are_plain_words():
    pair = ("hOuse", ("maison",))
    assert rules(relation((*PLENTY, pair), category="translation")) == {"stray case"}
    assert rules(relation((*PLENTY, ("iPhone", ("Apple",))), category="knowledge")) == set()


def test_copying_must_copy_and_only_copy():
    same = tuple((source, (source,)) for source, _ in PLENTY)
    assert rules(relation(same, identity=True, k=1)) == set()
    assert rules(relation(same, identity=True)) == {"k does not fit"}
    assert rules(relation((*same, ("x", ("y",))), identity=True, k=1)) == {"does not copy"}
    assert rules(relation((*same, ("x", ("x", "y"))), identity=True, k=1)) == {"maps a word to itself"}
    assert rules(relation(same, source_space=False)) == set()


def test_counts_per_tokenizer():
    vocabulary = vocabulary_of([" France", " Paris", " Bolivia", " La"])
    (single,) = one_token_counts([CAPITALS], vocabulary)
    assert (single.relation, single.pairs, single.used) == ("country-to-capital", 3, 1)
    (first,) = one_token_counts([CAPITALS], vocabulary, target="first-token")
    assert first.used == 2


# What SmolLM2's vocabulary cannot have: it splits numbers into digits, and twelve months are twelve.
TOO_FEW_ON_SMOLLM2 = {
    "year-to-following",
    "year-to-previous",
    "number-to-next",
    "number-to-next-unspaced",
    "number-word-to-digits",
    "digits-to-number-word",
    "roman-numeral-to-next",
    "roman-numeral-to-number-word",
    "month-to-next-month",
    "month-to-season",
    "weekday-to-next-weekday",
    "calendar-word-to-abbreviation",
    "abbreviation-to-calendar-word",
}


@pytest.mark.model
def test_smollm2_can_score_the_catalogue():
    from maps_engine.checkpoints.opening import open_checkpoint

    counts = {c.relation: c for c in one_token_counts(load_relations(), open_checkpoint(device="cpu").vocabulary)}
    few = {name for name, count in counts.items() if count.used < 30}
    assert few == TOO_FEW_ON_SMOLLM2
    assert counts["year-to-following"].used == 0
    assert counts["copying"].used == counts["copying"].pairs >= 300
    assert counts["country-to-capital"].used >= 40
    assert counts["place-or-nationality-to-country"].used >= 200
    assert counts["verb-to-past-tense"].used >= 450
    assert sum(count.used for count in counts.values()) > 20_000
