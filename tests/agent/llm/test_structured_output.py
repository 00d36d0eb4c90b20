"""Schemas that endpoints enforce, and answers found in talk."""

import json
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from agent.llm.structured_output import BadAnswer, json_objects, parse_answer, strict_schema
from tests.support.agent.llm_parts import GOOD, Named


class Pair(BaseModel):
    source: str = Field(max_length=9)
    target: str = "x"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    age: int = Field(ge=0, le=1000)


class Nested(BaseModel):
    title: str
    pairs: list[Pair] = Field(default=[], max_length=3)
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    note: str | None = None


def test_every_property_is_required_and_nothing_is_left_to_resolve():
    schema = strict_schema(Nested)
    assert schema["required"] == ["title", "pairs", "pet", "note"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["title"] == {"type": "string"}
    assert schema["properties"]["pairs"]["items"]["required"] == ["source", "target"]
    assert [option["required"] for option in schema["properties"]["pet"]["anyOf"]] == [["kind"], ["kind", "age"]]
    text = json.dumps(schema)
    assert not any(word in text for word in ("$ref", "$defs", "oneOf", "discriminator", '"default"'))
    assert "tests ask" not in json.dumps(strict_schema(Named))  # docstrings are for readers of the code


def test_bounded_integers_are_enums_where_that_is_short():
    assert strict_schema(Named)["properties"]["confidence"] == {"type": "integer", "enum": list(range(11))}
    age = strict_schema(Nested)["properties"]["pet"]["anyOf"][1]["properties"]["age"]
    assert age == {"type": "integer", "minimum": 0, "maximum": 1000}


def test_an_answer_cannot_hold_itself():
    class Tree(BaseModel):
        children: list["Tree"]

    with pytest.raises(TypeError, match="hold itself"):
        strict_schema(Tree)


@pytest.mark.parametrize(
    "wrapper",
    [
        "{}",
        "```json\n{}\n```",
        "Here it is: {} I hope it helps.",
        '<think>{"operation": 3} or {"a": 1}</think>{}',
        'The form is {"type": "object"}, so: {}',
        "{ not this } but {}",
    ],
)
def test_the_answer_is_found_in_talk(wrapper):
    assert parse_answer(wrapper.replace("{}", json.dumps(GOOD)), Named).confidence == 8


@given(st.text(max_size=400) | st.text(alphabet='{}[]":,a0 \\', max_size=400))
@settings(max_examples=60)
def test_no_text_is_too_wild(text):
    for found in json_objects(text):
        assert isinstance(found, dict)
    with pytest.raises(BadAnswer) as caught:
        parse_answer(text, Named)
    assert caught.value.kind in ("empty", "not json", "wrong types")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
@settings(max_examples=30)
def test_json_of_any_shape_is_a_bad_answer_or_one(value):
    text = json.dumps({"operation": value, "confidence": 3})
    if isinstance(value, str) and 0 < len(value) <= 60:
        assert parse_answer(text, Named).operation == value
        return
    with pytest.raises(BadAnswer) as caught:
        parse_answer(text, Named)
    assert caught.value.kind == "wrong types"
    assert "\n" not in caught.value.problem
