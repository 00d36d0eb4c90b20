"""Structured output: the schema of an answer, how a model is told of it, and how the answer is read from its text.

The texts lie in `prompts/templates/llm_*.txt`.

What openai and LangChain have for this does not pass our tests. Their schemas (`openai.pydantic_function_tool`,
`convert_to_openai_tool(strict=True)`, `dereference_refs`) keep `oneOf`, `discriminator`, `default` and titles, which
strict endpoints and grammars refuse, keep bounds of integers, which grammars ignore, and cut a class that holds itself
short without a word. Their parsers (`parse_json_markdown`, `PydanticOutputParser`) find the answer in two of the six
replies of `test_the_answer_is_found_in_talk` (bare and fenced JSON; not within talk or after thinking aloud), and
`parse_json_markdown` completes JSON that was cut off, so that half an answer looks whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from agent.llm.chat import ToolSpec, Turn
from agent.llm.protocol import Answer
from prompts import load_prompts

ANSWER_TOOL: Final = "answer"
ECHO: Final = "echo"  # type of a validation error, and kind of a fault: an answer that repeats the question
LAST_STEP: Final = "No uses of tools are left: answer now."
LONGEST_TEXT: Final = 200_000  # characters of a reply that are searched for JSON
MOST_OBJECTS: Final = 500  # places in a reply where JSON is tried
MOST_VALUES: Final = 64  # an integer with bounds this close is sent as an enum, which grammars keep; bounds they do not


class BadAnswer(ValueError):
    """Text that holds no answer of the wanted form. `kind` is one of ModelFault's."""

    def __init__(self, kind: str, problem: str) -> None:
        super().__init__(problem)
        self.kind, self.problem = kind, problem


def strict_schema(answer: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of `answer` as strict endpoints want it.

    Every property is required and no other allowed, references are resolved, integers with close bounds are enums.
    Raises TypeError for a class that holds itself.
    """
    schema = answer.model_json_schema()
    return _strict(schema, schema.get("$defs", {}), ())


def step_schema(tools: Sequence[ToolSpec], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of one step: a call of one of `tools`, or the answer."""
    options = [_step(tool.name, "arguments", tool.schema) for tool in tools]
    options.append(_step(ANSWER_TOOL, "answer", schema))
    return _object({"step": {"anyOf": options}})


def parse_answer(text: str, answer: type[Answer]) -> Answer:
    """The first JSON object in `text` that is a valid `answer`. Raises BadAnswer, which says what is wrong."""
    problem: ValidationError | None = None
    for found in json_objects(text):
        try:
            return answer.model_validate(found)
        except ValidationError as error:
            problem = problem or error
    if problem is not None:
        kinds = {one["type"] for one in problem.errors()}
        raise BadAnswer(ECHO if kinds == {ECHO} else "wrong types", problems(problem)) from problem
    if not text.strip():
        raise BadAnswer("empty", "the reply is empty")
    raise BadAnswer("not json", "there is no JSON object in the reply")


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects in `text`, outermost first; code fences, talk and `<think>` blocks are passed over."""
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


def answer_text(arguments: Mapping[str, Any]) -> str:
    """Arguments of the answering tool as the text that is validated."""
    return json.dumps(dict(arguments), ensure_ascii=False)


def problems(error: ValidationError) -> str:
    """The first four problems in one line, without the values: `confidence: Input should be …`."""
    parts = [f"{'.'.join(map(str, one['loc'])) or 'answer'}: {one['msg']}" for one in error.errors()[:4]]
    return "; ".join(parts)


def answer_form(schema: Mapping[str, Any]) -> str:
    """The schema in words, for endpoints that do not enforce it."""
    return _filled("llm_answer_form", schema=_compact(schema))


def native_tools(n_calls: int) -> str:
    """That tools may be called, and how to answer."""
    return _filled("llm_tools_native", n_calls=str(n_calls), answer_tool=ANSWER_TOOL)


def tools_in_json(tools: Sequence[ToolSpec], schema: Mapping[str, Any], n_calls: int) -> str:
    """Tools and steps in words, for endpoints without tool calling."""
    lines = [f"- {tool.name}: {tool.description} Arguments: {_compact(tool.schema)}" for tool in tools]
    return _filled(
        "llm_tools_in_json",
        tools="\n".join(lines),
        n_calls=str(n_calls),
        answer_tool=ANSWER_TOOL,
        schema=_compact(schema),
    )


def tool_result(tool: str, result: str, n_left: int) -> str:
    """A tool's result as a user's turn."""
    left = f"Uses of tools left: {n_left}." if n_left else LAST_STEP
    return _filled("llm_tool_result", tool=tool, result=result, left=left)


def repair(problem: str) -> str:
    """What is wrong with the last reply."""
    return _filled("llm_repair", problem=problem)


def flattened(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Native tool calls and their results as plain turns, for a request that offers no tools."""
    found: list[Turn] = []
    for turn in turns:
        if turn.role == "tool":
            found.append(Turn("user", _filled("llm_tool_result", tool=turn.tool, result=turn.text, left="").rstrip()))
        elif turn.calls:
            steps = [{"step": {"action": call.name, "arguments": dict(call.arguments)}} for call in turn.calls]
            found.append(Turn("assistant", "\n".join(map(_compact, steps))))
        else:
            found.append(turn)
    return tuple(found)


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
        kept.pop("description", None)  # the docstring of the class, which is for readers of the code
        return kept
    return _integers_as_enums({key: _strict(value, definitions, within) for key, value in kept.items()})


def _integers_as_enums(node: dict[str, Any]) -> dict[str, Any]:
    low, high = node.get("minimum"), node.get("maximum")
    if node.get("type") != "integer" or low is None or high is None or high - low >= MOST_VALUES:
        return node
    rest = {key: value for key, value in node.items() if key not in ("minimum", "maximum")}
    return rest | {"enum": list(range(int(low), int(high) + 1))}


def _step(action: str, key: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return _object({"action": {"type": "string", "enum": [action]}, key: dict(schema)})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _filled(name: str, **values: str) -> str:
    return load_prompts().templates[name].fill(**values).strip()
