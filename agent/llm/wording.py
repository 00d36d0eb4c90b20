"""What the model is told about the form of its answers; the texts lie in `prompts/templates/llm_*.txt`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent.llm.exchange import ToolSpec, Turn
from prompts import load_prompts

ANSWER_TOOL: Final = "answer"
LAST_STEP: Final = "No uses of tools are left: answer now."


def answer_form(schema: Mapping[str, Any]) -> str:
    """The schema in words, for endpoints that do not enforce it."""
    return _filled("llm_answer_form", schema=_compact(schema))


def native_tools(n_calls: int) -> str:
    """That tools may be called, and how to answer."""
    return _filled("llm_tools_native", n_calls=str(n_calls), answer_tool=ANSWER_TOOL)


def tools_in_json(tools: Sequence[ToolSpec], schema: Mapping[str, Any], n_calls: int) -> str:
    """Tools and steps in words, for endpoints that know no tools."""
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


def step_schema(tools: Sequence[ToolSpec], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of one step: a call of one of `tools`, or the answer."""
    options = [_step(tool.name, "arguments", tool.schema) for tool in tools]
    options.append(_step(ANSWER_TOOL, "answer", schema))
    return _object({"step": {"anyOf": options}})


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
