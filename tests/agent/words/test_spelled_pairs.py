"""Proposed pairs as tokens: a word stands for its spellings, exact texts for themselves; what falls out is counted."""

import random

from agent.words.spelled_pairs import KEPT_OUT, REPEATED, SPLIT, single_token, spelled_pairs, word_ids
from tests.support.word_vocabulary import word_vocabulary

WORDS = (" dog", "dog", " Dog", " cat", "Cat", " Paris", "Paris", " France", "France", " paris", " two", "x")
VOCABULARY = word_vocabulary(WORDS)


def texts(ids):
    return [VOCABULARY.text(i) for i in ids]


def test_single_tokens():
    assert VOCABULARY.text(single_token(VOCABULARY, " dog")) == " dog"
    assert VOCABULARY.text(single_token(VOCABULARY, "dog")) == "dog"
    for absent in ("", " ", " zebra", "\ud800", random.Random(0).randbytes(4).hex()):
        assert single_token(VOCABULARY, absent) is None


def test_a_word_stands_for_its_spellings():
    assert texts(word_ids(VOCABULARY, "dog")) == [" dog", " Dog", "dog"]
    assert texts(word_ids(VOCABULARY, "Paris")) == [" Paris", " paris", "Paris"]
    found = spelled_pairs([("France", "Paris"), ("dog", "cat")], VOCABULARY)
    assert texts(found.pairs.sources) == [" France", " dog"]
    assert [texts(one) for one in found.pairs.targets] == [[" Paris", " paris", "Paris"], [" cat", "Cat"]]
    assert (found.dropped, found.told_dropped) == ((), "")


def test_the_source_is_its_own_target_only_where_no_other_token_spells_it():
    (targets,) = spelled_pairs([("dog", "dog")], VOCABULARY).pairs.targets
    assert texts(targets) == [" Dog", "dog"]
    (targets,) = spelled_pairs([("two", "two")], VOCABULARY).pairs.targets
    assert texts(targets) == [" two"]


def test_exact_texts_stand_for_themselves():
    found = spelled_pairs([("dog", " dog"), (" dog", " Dog"), (" cat", "cat")], VOCABULARY, exact=True)
    assert [(VOCABULARY.text(s), texts(t)) for s, t in zip(found.pairs.sources, found.pairs.targets, strict=True)] == [
        ("dog", [" dog"]),
        (" dog", [" Dog"]),
    ]
    assert found.dropped == ((SPLIT, 1),)


def test_what_falls_out_is_counted_with_its_reason():
    proposed = [("dog", "cat"), ("dog", "cat"), (" dog", " CAT"), ("zebra", "cat"), ("cat", "New York"), ("X", "dog")]
    found = spelled_pairs(proposed, VOCABULARY, {"x"})
    assert dict(found.dropped) == {SPLIT: 2, REPEATED: 2, KEPT_OUT: 1}
    assert found.told_dropped == f"; 2 {REPEATED}, 2 {SPLIT}, 1 {KEPT_OUT} fell out"
    assert len(found.pairs.sources) == 1


def test_targets_of_one_source_are_joined():
    (targets,) = spelled_pairs([("dog", "cat"), ("dog", "x")], VOCABULARY).pairs.targets
    assert texts(targets) == [" cat", "Cat", "x"]
