"""What the agent asks of a language model, whoever serves it.

One question is one conversation: the model may call tools first (natively, or by an action in its JSON where the
endpoint has no tool calling), then gives an answer that is validated against a pydantic model. The caller need not
know how the endpoint is made to answer in that form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel

from agent.llm.token_usage import NO_USAGE, Usage

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Tool:
    """Something the model may call while it thinks. `run` takes validated `arguments` and answers in plain text."""

    name: str
    description: str
    arguments: type[BaseModel]
    run: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as it is shown in a transcript. `tool` names the tool called or answering."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Reply(Generic[Answer]):
    """A validated answer with all that led to it."""

    answer: Answer
    raw: str  # the text that was validated
    messages: tuple[Message, ...] = ()
    usage: Usage = NO_USAGE
    requests: int = 0  # sent to the endpoint for it; 0 when the reply was kept from before


class LanguageModel(Protocol):
    """A model that answers in a given form. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """As given on the command line, for example `openai:gpt-4o`."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that can change its answers besides the question; no API key."""

    def ask(
        self,
        prompt: str,
        answer: type[Answer],
        *,
        system: str = "",
        tools: Sequence[Tool] = (),
        max_tool_calls: int = 4,
        about: str = "",
    ) -> Reply[Answer]:
        """The model's validated answer after at most `max_tool_calls` uses of `tools`.

        `about` names the question in the log, such as "head 3.4".

        Raises ModelFault (one question failed), ModelDown or BudgetSpent (the run must stop).
        """
