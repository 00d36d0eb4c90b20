"""The control: a derangement that changes the operation wherever that is possible, and rows that it says nothing of."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from eval.scoring.questions.swaps import family_of, foreign_heads, swaps
from tests.support.eval.scored_heads import subject, subjects


@given(st.lists(st.sampled_from("abcde"), min_size=2, max_size=30), st.integers(0, 3))
def test_swaps_are_a_derangement_with_as_few_equal_families_as_can_be(labels, seed):
    families = {(0, head): label for head, label in enumerate(labels)}
    found = swaps(families, seed=seed)
    assert sorted(one.giver for one in found.values()) == sorted(families)
    assert all(key != one.giver for key, one in found.items())
    same = sum(one.same_operation for one in found.values())
    assert same == sum(families[key] == families[one.giver] for key, one in found.items())
    assert same == max(0, 2 * max(Counter(labels).values()) - len(labels))
    assert found == swaps(families, seed=seed)


def test_one_head_has_no_control():
    assert swaps({(0, 0): "a"}, seed=0) == {}
    assert swaps({}, seed=0) == {}


def test_variants_of_copying_are_one_family():
    assert family_of("copying with case variants") == family_of(" Copying ") == family_of("word to upper case")
    assert family_of("country to capital") != family_of("copying")
    assert family_of("Free  text") == "free text"


def test_foreign_rows_come_from_neither_family():
    everyone = subjects()
    first = everyone[0]
    found = swaps({one.key: family_of(one.description.operation) for one in everyone if one.described}, seed=0)
    swap = found[first.key]
    giver = next(one for one in everyone if one.key == swap.giver)
    banned = {family_of(one.description.operation) for one in (first, giver)}
    others = foreign_heads(first, swap, everyone, seed=0)
    assert others
    assert all(not one.described or family_of(one.description.operation) not in banned for one in others)
    assert any(not one.described for one in others)
    assert others == foreign_heads(first, swap, everyone, seed=0)


def test_foreign_heads_fall_back_to_what_there_is():
    alike = [subject("copying", 0, head) for head in range(3)]
    found = foreign_heads(alike[0], None, alike, seed=0)
    assert {one.key for one in found} == {(0, 1), (0, 2)}
    assert foreign_heads(alike[0], None, alike[:1], seed=0) == []
