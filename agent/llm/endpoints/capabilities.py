"""Which forms of request an endpoint really takes, found by small requests.

What is documented is not enough: some endpoints take a schema and ignore it, some small models are offered tools and
answer in prose. Each probe has an answer that only a form that works can give: a word that no prompt holds, only the
schema. LangChain's `profile` of a model comes from a list of well-known names; for any name of one's own server it is
None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from agent.llm.chat import ChatRequest, Completion, Form, FormRefused, ToolSpec, Turn
from agent.llm.structured_output import json_objects

PROBE_TOKENS: Final = 60
CODE: Final = "k7-plum"
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"code": {"type": "string", "enum": [CODE]}},
    "required": ["code"],
    "additionalProperties": False,
}
_TOOL: Final = ToolSpec("report_code", "Reports the code.", _SCHEMA)

Send = Callable[[ChatRequest], Completion]


def takes_schema(send: Send) -> bool:
    """Whether a JSON schema is enforced: its only value is one that the model cannot know."""
    found = _object(send, _request("Name a code.", "json_schema", schema=_SCHEMA))
    return found == {"code": CODE}


def takes_tools(send: Send) -> bool:
    """Whether the model calls a tool that it is told to call, with arguments that fit."""
    request = _request("Report the code by calling the tool report_code.", "tools", tools=(_TOOL,))
    try:
        calls = send(request).calls
    except FormRefused:
        return False
    return any(call.name == _TOOL.name and dict(call.arguments) == {"code": CODE} for call in calls)


def takes_json(send: Send) -> bool:
    """Whether JSON mode gives a JSON object and nothing else."""
    prompt = 'Answer in JSON: {"colour": "the colour of a clear sky"}'
    return _object(send, _request(prompt, "json_object")) is not None


PROBES: Final[dict[Form, Callable[[Send], bool]]] = {
    "tools": takes_tools,
    "json_schema": takes_schema,
    "json_object": takes_json,
}


def _request(prompt: str, form: Form, **parts: Any) -> ChatRequest:
    return ChatRequest((Turn("user", prompt),), form, PROBE_TOKENS, **parts)


def _object(send: Send, request: ChatRequest) -> dict[str, Any] | None:
    """The reply where all of it is one JSON object, bare or fenced as llama.cpp lets models do."""
    try:
        text = send(request).text.strip()
    except FormRefused:
        return None
    text = text.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    found = next(json_objects(text), None)
    return found if text.startswith("{") and text.endswith("}") else None
