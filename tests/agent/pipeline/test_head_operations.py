"""All that a head does, each once, with the part that it is about."""

from __future__ import annotations

from dataclasses import replace

from agent.pipeline.head_operations import supported, with_operations
from agent.results.descriptions import Claim, HeadDescription
from agent.results.outcomes import PairTest, TestedRow, TestResult
from agent.results.reports import HeadReport
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import HeadPart, MappingRow, ScoredToken
from tests.support.agent.mappings import mapping, planted
from tests.support.believable import made_provenance

RELATIONS = load_relations()
IDS: dict[str, int] = {}


def id_of(token: str) -> int:
    return IDS.setdefault(token, len(IDS))


def row(source: str, *targets: str) -> MappingRow:
    scored = tuple(ScoredToken(one, id_of(one), 5.0 - i) for i, one in enumerate(targets))
    return MappingRow(source, id_of(source), 1.0, scored)


def said_and(operation: str, pairs: dict[str, str], *, verdict="supported", part=None, score=0.8, shuffled=0.1):
    rows = tuple(TestedRow(row(f" {s}", *(f" {t}" for t in targets.split())), "", True) for s, targets in pairs.items())
    scores = PairTest(20, 10, score, 99.0, 0.02, 0.5, 269, shuffled)
    claims = () if part is None else (Claim("part", operation, 9, 10),)
    said = HeadDescription("ok", "lexical", "", f"Maps {operation}.", operation, claims=claims, part=part)
    return said, TestResult(verdict, operation, pairs=scores, tested_rows=rows)


def part(share: float, *words: str) -> HeadPart:
    return HeadPart(share, 0.5, len(words), (), (), members=frozenset(id_of(f" {word}") for word in words))


CAPITALS = said_and("country to capital", {"France": "Paris Lyon", "Japan": "Tokyo", "Egypt": "Cairo"})
PLURALS = said_and('plural nouns to "are", "were"', {"houses": "are were", "dogs": "were", "sharks": "are"}, part=1)


def report_of(said, test, operations, parts=None) -> HeadReport:
    whole = replace(mapping(planted([("a", "b")] * 6)), parts=(part(0.2), part(0.1)) if parts is None else parts)
    report = HeadReport(whole, (), said, test, made_provenance(whole))
    return with_operations(replace(report, operations=supported(operations)), RELATIONS)


def test_only_what_tests_support_is_an_operation():
    weak = (CAPITALS[0], replace(CAPITALS[1], verdict="weak"))
    unclear = (HeadDescription("unclear", "lexical", operation="unclear"), TestResult("not testable", "unclear"))
    assert [one.operation for one in supported([weak, PLURALS, unclear])] == ['plural nouns to "are", "were"']


def test_the_recorded_description_is_first_and_named_once():
    found = report_of(*CAPITALS, [PLURALS, CAPITALS]).operations
    assert [one.operation for one in found] == ["country to capital", 'plural nouns to "are", "were"']
    assert found[0].test == CAPITALS[1]
    assert found[0].kind == "said"


def test_a_head_that_is_not_named_has_no_operation():
    said = HeadDescription("unclear", "lexical", operation="unclear")
    assert report_of(said, TestResult("not testable", "unclear"), []).operations == ()


def test_an_operation_belongs_to_the_part_that_holds_most_of_its_words():
    parts = (part(0.3, "France", "Japan"), part(0.1, "houses", "dogs"))
    first, second = report_of(*CAPITALS, [CAPITALS, PLURALS], parts).operations
    assert (first.part, first.share) == (0, 0.3)
    assert (second.part, second.share) == (1, 0.1)
    scattered = (part(0.3, "France"), part(0.1, "Japan"), part(0.05, "Egypt"))
    assert report_of(*CAPITALS, [CAPITALS], scattered).operations[0].part is None


def test_operations_of_larger_parts_come_first():
    parts = (part(0.3, "houses", "dogs", "sharks"), part(0.1, "one"))
    none = said_and("word to homophone", {"sea": "see", "won": "one"}, score=0.9)
    small = said_and("word to antonym", {"hot": "cold", "big": "small"}, part=1)
    large = said_and("country to language", {"France": "French", "Japan": "Japanese"}, part=0)
    found = report_of(*CAPITALS, [none, small, large], parts).operations
    assert [one.operation for one in found] == [
        "country to capital", "country to language", "word to antonym", "word to homophone",
    ]  # fmt: skip


TENSES = (("tense", 0.8), ("participle", 0.6))


def test_of_two_that_say_the_same_the_clearer_one_is_told():
    rows = {"walk": "walked", "play": "played"}
    past, participle = (said_and(f"verb to past {name}", rows, score=score) for name, score in TENSES)
    for others in ([past, participle], [participle, past]):
        found = report_of(*CAPITALS, others).operations
        assert [one.operation for one in found[1:]] == ["verb to past tense"]
        assert found[1].also == ("verb to past participle",)
    bare = (past[0], replace(past[1], pairs=replace(past[1].pairs, shuffled=None, score=1.0)))
    found = report_of(*CAPITALS, [bare, participle]).operations
    assert [one.operation for one in found[1:]] == ["verb to past participle"]


def test_the_same_in_other_words_is_told_once():
    same = said_and("countries to cities", {"France": "Paris", "Japan": "Tokyo", "Egypt": "Cairo"})
    (found,) = report_of(*CAPITALS, [same, same]).operations
    assert (found.operation, found.also) == ("country to capital", ("countries to cities",))
    assert found.to_json()["also"] == ["countries to cities"]
    assert found.also_said == "(also countries to cities)"


def test_of_many_other_names_a_few_are_told():
    (found,) = report_of(*CAPITALS, []).operations
    assert replace(found, also=tuple("abcdef")).also_said == "(also a, b, c, d, 2 more)"
    assert found.also_said == ""


def test_what_holds_for_more_words_is_another_operation_unless_it_is_of_the_same_part():
    wider = said_and("words to cities", {"Seine": "Paris", "sushi": "Tokyo", "Nile": "Cairo"})
    parts = (part(0.3, "France", "Japan"), part(0.1, "Seine", "sushi"))
    assert len(report_of(*CAPITALS, [wider], parts).operations) == 2
    together = (part(0.3, "France", "Japan", "Seine", "sushi"),)
    assert len(report_of(*CAPITALS, [wider], together).operations) == 1


def test_the_same_words_with_other_targets_are_two_operations():
    languages = said_and("country to language", {"France": "French", "Japan": "Japanese", "Egypt": "Arabic"})
    found = report_of(*CAPITALS, [languages]).operations
    assert [one.operation for one in found] == ["country to capital", "country to language"]


def test_free_words_are_compared_as_they_stand():
    free, again = (said_and("rivers to seas", {"Nile": "Mediterranean"}) for _ in range(2))
    assert len(report_of(*free, [again]).operations) == 1


def test_what_the_test_does_not_support_is_no_operation_though_it_is_recorded():
    for verdict in ("weak", "not testable"):
        recorded = CAPITALS[0], replace(CAPITALS[1], verdict=verdict)
        found = report_of(*recorded, [PLURALS]).operations
        assert [one.operation for one in found] == ['plural nouns to "are", "were"']


def test_a_claim_covers_others_within_as_many_targets_as_its_test_looks_at():
    first = said_and("words to months", {"sea": "May", "sky": "June"}, shuffled=None)
    first = (first[0], replace(first[1], pairs=replace(first[1].pairs, k=1)))
    later = said_and("word to antonym", {"hot": "cold May", "big": "small June"})
    assert len(report_of(*CAPITALS, [first, later]).operations) == 3
    wide = (first[0], replace(first[1], pairs=replace(first[1].pairs, k=10)))
    assert len(report_of(*CAPITALS, [wide, later]).operations) == 2


def test_the_kind_is_that_of_the_claim_or_said_by_a_language_model():
    shown = Claim("rows-shown", "30 rows", 30, 30)
    said = replace(CAPITALS[0], claims=(shown,))
    assert report_of(said, CAPITALS[1], []).operations[0].kind == "said"
    counted = replace(CAPITALS[0], claims=(Claim("scored", "country to capital", 9, 12),))
    assert report_of(counted, CAPITALS[1], []).operations[0].kind == "scored"


def test_what_is_said_of_two_parts_alike_stands_for_both():
    parts = (part(0.3, "France", "Japan"), part(0.1, "Egypt", "Kenya"))
    one = said_and("country to capital", {"France": "Paris", "Japan": "Tokyo"}, part=0)
    other = said_and("countries to cities", {"Egypt": "Cairo", "Kenya": "Nairobi"}, part=1)
    (found,) = report_of(*one, [one, other], parts).operations
    assert (found.operation, found.parts, found.share) == ("country to capital", (0, 1), 0.4)


def test_the_same_words_for_two_parts_are_one_operation_with_the_share_of_both():
    parts = (part(0.3, "France"), part(0.2, "Egypt"), part(0.1, "Kenya"))
    one, two = (said_and("country to capital", {word: "Paris"}, part=i) for word, i in (("France", 0), ("Kenya", 2)))
    (found,) = report_of(*one, [one, two], parts).operations
    assert (found.part, found.joined, found.share) == (0, (2,), 0.4)
    assert found.to_json()["joined"] == [2]
