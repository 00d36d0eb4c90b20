"""One chat request to a language model and what came back, in the same types for all providers.

Plain frozen values, so that requests make keys of the reply cache, replies lie in it, and a model in this process
needs no LangChain. `endpoints` turn them into the messages of LangChain and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from agent.llm.token_usage import Usage

Form = Literal["tools", "json_schema", "json_object", "text"]  # the strictest first


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asks for; `arguments` as they came, not validated."""

    name: str
    arguments: Mapping[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One message on its way to the model. An assistant's may have `calls`; a tool's answer has `call_id`, `tool`."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it: JSON schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is sent. `schema` binds the text under json_schema; `tools` are offered under tools."""

    turns: tuple[Turn, ...]
    form: Form
    max_tokens: int
    schema: Mapping[str, Any] | None = None
    tools: tuple[ToolSpec, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything in it as plain JSON values: part of the key under which a reply is kept."""
        return asdict(self)

    @property
    def characters(self) -> int:
        """Length of all that the model reads, for estimates."""
        turns = sum(len(turn.text) + sum(len(str(call.arguments)) for call in turn.calls) for turn in self.turns)
        return turns + sum(len(tool.description) + len(str(tool.schema)) for tool in self.tools)


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back. `usage` is None where the endpoint does not report it."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    finish: str = "stop"  # "stop" | "length" | "content_filter" | …
    refusal: str = ""
    usage: Usage | None = None


class FormRefused(Exception):
    """The endpoint does not take this form of request; another may do."""


class ChatEndpoint(Protocol):
    """One model at one place. Safe to use from several threads."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Provider, model, address and sampling: all that can change a reply besides the request; no API key."""

    @property
    def forms(self) -> tuple[Form, ...] | None:
        """The forms that it is known to take, or None where that must be probed."""

    def complete(self, request: ChatRequest) -> Completion:
        """One request, no retries. Raises FormRefused, or whatever the client raises (see `faults`)."""

    def without_secrets(self, text: str) -> str:
        """`text` with every API key that it may hold replaced."""

    def without_parameter(self, name: str) -> bool:
        """Leave the parameter `name`, which was refused, out of later requests; False when that cannot help."""
