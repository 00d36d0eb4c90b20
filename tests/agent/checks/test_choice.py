"""Which of several tested descriptions is recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.checks.choice import chosen, chosen_of_head
from agent.results.descriptions import Claim, HeadDescription
from agent.results.outcomes import PairTest, TestResult, Verdict


def said_of(*verdicts: Verdict) -> list[tuple[HeadDescription, TestResult]]:
    """One description a verdict, named a, b, c …"""
    pairs = PairTest(40, 10, 0.5, 99.0, 0.1, 0.4, 7)
    return [
        (
            HeadDescription("ok", "lexical", operation=name, observed_pattern=f"Maps {name}.", confidence=0.5),
            TestResult(verdict, name, pairs=pairs),
        )
        for name, verdict in zip("abcdefgh", verdicts, strict=False)
    ]


@pytest.mark.parametrize(
    ("verdicts", "operation"),
    [
        (("supported",), "a"),
        (("weak", "supported"), "b"),
        (("contradicted", "weak"), "b"),
        (("contradicted", "not testable", "weak"), "c"),
        (("contradicted", "not testable"), "b"),
        (("weak", "weak"), "a"),
    ],
)
def test_the_first_of_the_best_verdict_is_named(verdicts, operation):
    (said, test), attempts = chosen(said_of(*verdicts), ranked=False)
    assert (said.status, said.operation, test.operation) == ("ok", operation, operation)
    assert test.verdict in verdicts
    if len(verdicts) == 1:
        assert attempts == ()
    else:
        assert [one.trial.verdict for one in attempts] == list(verdicts)
        assert [one.description.operation for one in attempts if one.decision == "kept"] == [operation]


def test_a_supported_claim_without_a_control_comes_behind_one_with_a_control():
    plain, other = said_of("supported", "supported")
    pairs = replace(other[1].pairs, shuffled=0.02)
    controlled = (other[0], replace(other[1], pairs=pairs))
    for tested in ([plain, controlled], [controlled, plain]):
        (said, _), _ = chosen(tested, ranked=True)
        assert (said.operation, said.observed_pattern) == ("b", "Maps b.")


def test_a_scored_operation_without_pairs_left_for_a_test_comes_before_weak_claims():
    weak, untested, supported = said_of("weak", "not testable", "supported")
    scored = (replace(untested[0], claims=(Claim("scored", "b", 8, 12),)), untested[1])
    assert chosen([weak, scored], ranked=True)[0][0].operation == "b"
    assert chosen([weak, untested], ranked=True)[0][0].operation == "unclear"
    assert chosen([scored, supported], ranked=True)[0][0].operation == "c"


@pytest.mark.parametrize("n", [1, 3])
def test_nothing_that_is_contradicted_stays_named(n):
    (said, test), attempts = chosen(said_of(*["contradicted"] * n), ranked=bool(n % 2))
    assert (said.status, said.operation, said.confidence) == ("unclear", "unclear", 0.0)
    assert said.reason == "withdrawn: its test contradicts it; it said 'a'"
    assert (test.verdict, test.operation) == ("contradicted", "a")
    assert [one.decision for one in attempts] == (["withdrawn", *["proposed"] * (n - 1)] if n > 1 else [])


def test_a_part_names_the_head_where_nothing_supported_is_said_of_the_whole():
    whole = said_of("weak", "contradicted")
    parts = [(replace(said, part=i), test) for i, (said, test) in enumerate(said_of("weak", "supported", "supported"))]
    (said, test), attempts = chosen_of_head([*whole, *parts])
    assert (said.operation, said.part, test.verdict) == ("b", 1, "supported")
    assert [one.decision for one in attempts] == ["withdrawn", "withdrawn", "proposed", "kept", "proposed"]
    untested = (whole[1][0], TestResult("not testable", "b"))
    for of_whole in ([whole[1]], [untested], []):
        (said, _), attempts = chosen_of_head([*of_whole, *parts])
        assert (said.part, [one.decision for one in attempts][-3:]) == (1, ["proposed", "kept", "proposed"])


def test_parts_alone_that_are_not_supported_name_nothing():
    weak = [(replace(said, part=i), test) for i, (said, test) in enumerate(said_of("weak", "contradicted"))]
    (said, test), _ = chosen_of_head(weak)
    assert (said.status, test.verdict) == ("unclear", "weak")


def test_a_part_does_not_take_the_place_of_the_whole_head():
    parts = [(replace(said, part=0), test) for said, test in said_of("supported")]
    assert chosen_of_head([*said_of("weak", "supported"), *parts])[0][0].part is None
    weak = [(replace(said, part=0), test) for said, test in said_of("weak")]
    (said, _), _ = chosen_of_head([*said_of("weak"), *weak])
    assert (said.status, said.part) == ("unclear", None)


def test_a_head_that_nothing_was_said_of_stays_unclear():
    said = HeadDescription("unclear", "lexical", operation="unclear", reason="mixed rows")
    assert (
        chosen([(said, TestResult("not testable", "unclear", "the description is unclear"))], ranked=True)[0][0] == said
    )


def test_what_tests_have_picked_has_to_be_supported():
    (said, test), _ = chosen(said_of("contradicted", "weak", "weak"), ranked=True)
    assert (said.status, test.verdict, test.operation) == ("unclear", "weak", "b")
    assert said.reason == "withdrawn: its test does not support it; it said 'b'"
    (said, _), _ = chosen(said_of("contradicted", "not testable"), ranked=True)
    assert (said.status, said.operation) == ("ok", "b")
