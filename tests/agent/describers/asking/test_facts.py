"""Facts that a language model is told: counted from what it may see, hostile tokens quoted, others test it then."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from agent.describers.asking.answers import DescribeAnswer, described
from agent.describers.asking.facts import counted_besides, fact_lines, told_words
from agent.describers.asking.prompting import describe_prompt
from agent.results.evidence import ClassScore, Evidence, KnownScore, SharedScore
from maps_engine.results import ConstantPart, HeadPart, ScoredToken
from tests.support.agent.mappings import HOSTILE, mapping, row
from tests.support.believable import a_mapping

KNOWN = KnownScore("country-to-capital", 0.75, 1 / 12, 99.0, 12, 10)
VERBS = ClassScore("plural nouns", "modal and auxiliary verbs", 0.83, 0.11, 31.0, 48, ("are", "were"))
SHARED = SharedScore("pronouns", 0.4, 0.61, 0.1, 300, 3000, ("they", "\x1btheir"))
ANSWER = DescribeAnswer(reasoning="", input_strings="", observed_pattern="p", operation="o", confidence=5)


def rows(n: int):
    """`n` rows, of which every second holds its input, and all hold " them"."""
    made = [(f" w{i}", [f"W{i}", " them"] if i % 2 else [" x", " them"]) for i in range(n)]
    return [row(source, targets, first_id=i * 9) for i, (source, targets) in enumerate(made)]


def test_what_is_told_is_what_was_counted():
    evidence = Evidence.of(mapping(rows(10)), known=(KNOWN,), classes=(VERBS,), shared=SHARED)
    copies, outputs, known, classes, shared = fact_lines(evidence)
    assert copies.startswith("5 of 10 rows hold their own input")
    assert outputs.startswith('10 of 10 rows hold one of these outputs: "them"')
    assert known.startswith("country to capital: the outputs of 9 of 12 known pairs are among the 10 tokens")
    assert known.endswith("with each other's outputs 1.")
    assert classes.startswith(
        'plural nouns to modal and auxiliary verbs: so for 83% of 48 plural nouns (most often "are"'
    )
    assert '40% of the strongest outputs of 300 words are pronouns (most often "they", "\\u001btheir")' in shared
    assert counted_besides(evidence) == 3


def test_the_constant_part_is_told_with_its_share():
    part = ConstantPart(0.414, (ScoredToken(" the", 1, 2.0), ScoredToken("\x1b", 2, 1.0)))
    told = fact_lines(Evidence.of(replace(mapping(rows(10)), constant=part)))[2]
    assert "(41% of the length of these rows)" in told
    assert '" the", "\\u001b"' in told


def test_facts_stand_in_the_prompt_as_lines_with_nothing_hidden():
    hostile = [row(HOSTILE[i % len(HOSTILE)], HOSTILE[i % 5 : i % 5 + 5], first_id=i * 9) for i in range(30)]
    evidence = Evidence.of(mapping(hostile), shared=SHARED)
    prompt = describe_prompt(evidence, fact_lines(evidence))
    assert all(f"\n- {fact}\n" in prompt for fact in fact_lines(evidence))
    assert not [c for c in prompt if c != "\n" and unicodedata.category(c)[0] == "C"]
    assert "\n- none\n" in describe_prompt(evidence)


def test_whoever_was_told_of_other_words_is_tested_on_others():
    told, untold = (described(ANSWER, raw="", describer="m", settings={}, n_rows=30, n_facts=n) for n in (2, 0))
    assert told.scored
    assert not untold.scored
    assert counted_besides(Evidence.of(mapping(rows(10)))) == 0
    part = ConstantPart(0.4, (ScoredToken(" the", 1, 2.0),))  # "words to articles" can be read off it
    assert counted_besides(Evidence.of(replace(mapping(rows(10)), constant=part))) == 1


def test_parts_are_told_by_their_words_and_what_these_have_in_common():
    own = tuple(row(f" word{i}", [f" out{i}"]) for i in range(9))
    common = tuple(ScoredToken(f" shared{i}", i, 3.0 - i) for i in range(2))
    parts = tuple(HeadPart(0.3 - 0.05 * i, 0.4, 9, common, own) for i in range(6))
    evidence = Evidence.of(replace(mapping(rows(6)), parts=parts))
    told = [line for line in fact_lines(evidence) if line.startswith("For one group of words")]
    assert len(told) == 4
    assert told[0] == (
        'For one group of words, such as " word0", " word1", " word2", " word3", " word4", " word5" (30% of what the '
        'input adds), the outputs have in common: " shared0", " shared1".'
    )
    assert told_words(evidence) == {f"word{i}" for i in range(6)}
    assert counted_besides(evidence) == 4
    assert counted_besides(Evidence.of(mapping(rows(6)))) == 0


def test_held_out_rows_are_not_told_of_parts():
    own = tuple(row(f" word{i}", [f" out{i}"], first_id=100 + 10 * i) for i in range(3))
    whole = replace(mapping(rows(6)), parts=(HeadPart(0.3, 0.4, 9, (ScoredToken(" a", 1, 1.0),), own),))
    kept_back = replace(whole, held_out_rows=(own[1],))
    assert [one.token for one in Evidence.of(whole).parts[0].rows] == [" word0", " word1", " word2"]
    assert [one.token for one in Evidence.of(kept_back).parts[0].rows] == [" word0", " word2"]
    assert " word1" not in " ".join(fact_lines(Evidence.of(kept_back)))


def test_what_the_head_attends_to_is_told_last_and_takes_no_words_from_the_test():
    told = replace(mapping(rows(10)), attention=a_mapping(0, 0, operation=None).attention)
    evidence = Evidence.of(told)
    assert fact_lines(evidence)[-1] == "By its queries and keys the head attends to the token before (61%)."
    assert counted_besides(evidence) == counted_besides(replace(evidence, attends=""))
