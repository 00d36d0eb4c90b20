"""The form of an answer on parts: as many entries as parts, strict enough for a grammar, forgiving of extra ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.describers.asking.part_names import named_parts, parts_answer
from agent.llm.structured_output import strict_schema
from maps_engine.results import HeadPart
from tests.support.agent.mappings import row
from tests.support.agent.queue_models import part_said

PARTS = tuple(HeadPart(0.1, 0.5, 9, (), (row(f"w{i}", "x"),)) for i in range(4))


def named(*given):
    answer = parts_answer(len(PARTS)).model_validate({"parts": list(given)})
    return named_parts(answer.parts, PARTS, raw="{}", describer="x", settings={})


def test_the_schema_asks_for_one_entry_a_part_and_numbers_that_there_are():
    schema = strict_schema(parts_answer(3))["properties"]["parts"]
    assert (schema["minItems"], schema["maxItems"]) == (3, 3)
    one = schema["items"]["properties"]
    assert (one["part"]["enum"], one["same_as"]["enum"]) == ([1, 2, 3], [0, 1, 2, 3])


def test_entries_beyond_the_parts_are_left_out_and_impossible_numbers_refused():
    assert len(parts_answer(1).model_validate({"parts": [part_said(1, "a to b")] * 3}).parts) == 1
    with pytest.raises(ValidationError):
        parts_answer(2).model_validate({"parts": [part_said(3, "a to b")]})


def test_of_two_entries_on_one_part_the_first_counts():
    (one,) = named(part_said(2, "a to b"), part_said(2, "c to d"))
    assert (one.part, one.operation) == (1, "a to b")


def test_what_is_the_same_as_an_earlier_part_is_said_in_its_words_and_tested_for_itself():
    found = named(part_said(1, "a to b"), part_said(2, "c to d", 1), part_said(3, "e to f", 2))
    assert [(one.part, one.operation) for one in found] == [(0, "a to b"), (1, "a to b"), (2, "a to b")]
    assert named(part_said(1, "unclear"), part_said(2, "c to d", 1))[0].operation == "c to d"


@pytest.mark.parametrize("label", ["", "  ", "What do its input tokens have in common?"])
def test_an_entry_that_says_nothing_does_not_cost_the_others(label):
    (one,) = named(part_said(1, label), part_said(2, "a to b"))
    assert (one.part, one.operation) == (1, "a to b")


def test_a_description_made_from_a_part_is_tested_on_words_that_did_not_find_it():
    assert named(part_said(1, "a to b"))[0].scored


entries = st.lists(
    st.builds(
        part_said, st.integers(1, 4), st.sampled_from(["a to b", "unclear", "Unclear."]), same_as=st.integers(0, 4)
    ),
    max_size=4,
)


@given(entries)
def test_no_part_is_named_twice(given):
    found = named(*given)
    assert len({one.part for one in found}) == len(found)
    assert {one.part for one in found} <= {one["part"] - 1 for one in given}
    assert not any("unclear" in one.operation.casefold() for one in found)
