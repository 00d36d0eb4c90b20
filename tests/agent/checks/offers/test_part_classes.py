"""Claims of classes for parts: what stands out among the words that found them, and among what these have in common."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from agent.checks.claims import ClaimedFields, claimed_operation
from agent.checks.offers import part_classes
from agent.checks.offers.part_classes import PartClasses
from agent.describers.lexical import LexicalDescriber
from agent.results.evidence import Evidence, PartClass
from agent.words.fields import SemanticFields
from agent.words.spelling import core
from maps_engine.ordinary_words import in_finding_half
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import HeadPart
from tests.support.agent.mappings import LetterEmbedder, mapping, planted

PLURALS = [f"plural{i}" for i in range(60)]
OTHERS = [f"word{i}" for i in range(300)]
VERBS = ["are", "were", "have", "do"]
CLASSES = {"plural nouns": frozenset(PLURALS), "odd words": frozenset(OTHERS[::50]), "auxiliaries": frozenset(VERBS)}
TEXTS = [f" {word}" for word in (*PLURALS, *OTHERS, *VERBS)] + [f" token{i}" for i in range(400)] + ["Are", " Are"]


@pytest.fixture
def of_parts(monkeypatch: pytest.MonkeyPatch) -> PartClasses:
    monkeypatch.setattr(part_classes, "word_classes", lambda: CLASSES)
    members = torch.tensor([[core(text) in words for words in CLASSES.values()] for text in TEXTS])
    vocabulary = SimpleNamespace(text=TEXTS.__getitem__)
    maps = SimpleNamespace(
        checkpoint=SimpleNamespace(vocabulary=vocabulary), part_words=tuple(range(len(PLURALS) + len(OTHERS)))
    )
    strongest = SimpleNamespace(maps=maps)
    return PartClasses(SimpleNamespace(targets=(tuple(CLASSES), members), strongest=strongest))


def a_part(words: list[str], common: list[str]) -> HeadPart:
    ids = {text: i for i, text in enumerate(TEXTS)}
    return HeadPart(
        0.1, 0.4, len(words), (), (),
        members=frozenset(ids[f" {word}"] for word in words), common=tuple(ids[text] for text in common),
    )  # fmt: skip


def found(of_parts: PartClasses, *parts: HeadPart) -> tuple[PartClass, ...]:
    return of_parts.of_head(SimpleNamespace(parts=parts))


WRITTEN = [" are", " token1", "Are", " were", " Are", " token2", " have", " token3", " token4", " token5"]


def test_the_classes_that_stand_out_make_the_claim(of_parts):
    nothing = a_part(OTHERS[:80], WRITTEN)
    (one,) = found(of_parts, nothing, a_part(PLURALS, WRITTEN))
    assert (one.part, one.source, one.target) == (1, "plural nouns", "auxiliaries")
    assert (one.k, one.n) == (5, 10)
    assert one.n_words == sum(in_finding_half(word) for word in PLURALS)
    assert one.written == ("are", "were", "have")
    assert one.label == 'plural nouns to "are", "were", "have"'


def test_words_that_test_a_part_do_not_name_it(of_parts):
    tests = [word for word in PLURALS if not in_finding_half(word)]
    assert found(of_parts, a_part(tests, WRITTEN)) == ()


@pytest.mark.parametrize(
    ("words", "common"),
    [
        (PLURALS, [f" token{i}" for i in range(10)]),  # targets of no class
        (PLURALS, [" are", " were", *(f" token{i}" for i in range(8))]),  # too few of one
        (OTHERS[:100], WRITTEN),  # words of no class
        (PLURALS[:8], WRITTEN),  # too few of one
    ],
)
def test_a_part_without_classes_is_not_named(of_parts, words, common):
    assert found(of_parts, a_part(words, common)) == ()


def test_everyday_classes_have_to_hold_nearly_all_targets(of_parts, monkeypatch):
    monkeypatch.setattr(part_classes, "EVERYDAY", ("auxiliaries",))
    assert found(of_parts, a_part(PLURALS, WRITTEN)) == ()
    nearly_all = [" are", "Are", " were", " Are", " have", " do", " are", " were", " have", " token1"]
    assert [one.target for one in found(of_parts, a_part(PLURALS, nearly_all))] == ["auxiliaries"]


def test_the_label_is_a_claim_of_its_class_and_its_words(of_parts, monkeypatch):
    monkeypatch.setattr("agent.checks.claims.word_classes", lambda: CLASSES)
    (one,) = found(of_parts, a_part(PLURALS, WRITTEN))
    claim = claimed_operation(one.label, [], scored=True)
    assert claim == ClaimedFields(frozenset(PLURALS), frozenset({"are", "were", "have"}), scored=True)


@pytest.mark.parametrize("label", ['plural nouns to "are', 'to "are"', '"a" to "b"', 'x to "a" "b"'])
def test_other_quotes_are_no_claim_of_words(label):
    assert claimed_operation(label, []) is None


def test_classes_that_are_no_words_are_named_as_a_class():
    one = PartClass(0, "cities", "quotation marks", 7, 10, 0.1, 28.0, 53)
    assert one.label == "cities to quotation marks"
    assert PartClass(0, "cities", "cities", 7, 10, 0.1, 28.0, 53).label == "cities to other cities"


def test_the_lexical_describer_says_it_of_the_part():
    describer = LexicalDescriber(SemanticFields(LetterEmbedder()), load_relations())
    one = PartClass(3, "plural nouns", "auxiliaries", 5, 10, 0.1, 30.0, 40, ("are", "were"))
    evidence = Evidence.of(mapping(planted([("a", "b")] * 30)), part_classes=(one,))
    said = describer.ranked(evidence)[-1]
    assert (said.part, said.operation, said.scored) == (3, 'plural nouns to "are", "were"', True)
    assert said.observed_pattern == 'Maps plural nouns to "are", "were" (5 of 10 targets in common).'
    assert said.input_strings == ""
