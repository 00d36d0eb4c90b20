"""Answers out of text: pydantic models to schemas that endpoints can enforce, and JSON found within talk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Answer = TypeVar("Answer", bound=BaseModel)

LONGEST_TEXT = 200_000
MOST_OBJECTS = 500
MOST_VALUES = 64  # an integer with bounds this close is sent as an enum, which grammars keep; bounds they do not


class BadAnswer(ValueError):
    """Text that holds no answer of the wanted form. `kind` is one of ModelFault's."""

    def __init__(self, kind: str, problem: str) -> None:
        super().__init__(problem)
        self.kind, self.problem = kind, problem


def strict_schema(answer: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of `answer` as strict endpoints want it.

    Every property required, none besides, references resolved, bounded integers as enums.
    """
    schema = answer.model_json_schema()
    return _strict(schema, schema.get("$defs", {}), ())


def _strict(node: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_strict(item, definitions, within) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name in within:
            raise TypeError(f"an answer cannot hold itself: {name}")
        return _strict(definitions[name], definitions, (*within, name))
    kept = {key: value for key, value in node.items() if key not in ("title", "default", "$defs", "discriminator")}
    if "oneOf" in kept:
        kept["anyOf"] = kept.pop("oneOf")
    if "properties" in kept:
        kept["properties"] = {k: _strict(v, definitions, within) for k, v in kept["properties"].items()}
        kept |= {"required": list(kept["properties"]), "additionalProperties": False}
        kept.pop("description", None)  # the docstring of the class, which speaks to its readers
        return kept
    return _integers_as_enums({key: _strict(value, definitions, within) for key, value in kept.items()})


def _integers_as_enums(node: dict[str, Any]) -> dict[str, Any]:
    low, high = node.get("minimum"), node.get("maximum")
    if node.get("type") != "integer" or low is None or high is None or high - low >= MOST_VALUES:
        return node
    rest = {key: value for key, value in node.items() if key not in ("minimum", "maximum")}
    return rest | {"enum": list(range(int(low), int(high) + 1))}


def parse_answer(text: str, answer: type[Answer]) -> Answer:
    """The first JSON object in `text` that is a valid `answer`; BadAnswer with what is wrong otherwise."""
    problem: ValidationError | None = None
    for found in json_objects(text):
        try:
            return answer.model_validate(found)
        except ValidationError as error:
            problem = problem or error
    if problem is not None:
        raise BadAnswer("wrong types", problems(problem)) from problem
    if not text.strip():
        raise BadAnswer("empty", "the reply is empty")
    raise BadAnswer("not json", "there is no JSON object in the reply")


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects in `text`, outermost first; fences, talk and thinking aloud aside."""
    text = re.sub(r"<think>.*?(</think>|\Z)", " ", text[:LONGEST_TEXT], flags=re.S)
    decoder = json.JSONDecoder()
    start, count = text.find("{"), 0
    while start >= 0 and count < MOST_OBJECTS:
        count += 1
        try:
            found, end = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            end = start + 1
        else:
            yield found
        start = text.find("{", end)


def problems(error: ValidationError) -> str:
    """The first few problems in one line, without the values: `confidence: Input should be …`."""
    parts = [f"{'.'.join(map(str, one['loc'])) or 'answer'}: {one['msg']}" for one in error.errors()[:4]]
    return "; ".join(parts)
