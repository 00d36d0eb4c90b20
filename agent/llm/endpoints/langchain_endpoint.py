"""Endpoints behind LangChain's chat models: `openai:` with a request body of our own, any other provider by name.

LangChain makes the messages, speaks to the provider and reads tool calls and usage; retries, limits and the cache are
switched off there (`sender`, `limits` and `reply_cache` say why).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from agent.llm.chat import ChatRequest, Completion, Form, FormRefused, ToolCall, ToolSpec, Turn
from agent.llm.token_usage import Usage

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

CUT_OFF: Final = ("length", "max_tokens", "max_output_tokens", "model_length")
FILTERED: Final = ("content_filter", "safety", "prohibited_content", "blocklist", "recitation", "guardrail_intervened")
SECRET_NAME: Final = re.compile(r"(?i)key|token|secret|password|passwd|credential|auth|sig(nature)?$")
SECRET_VARIABLE: Final = re.compile(r"(?i)(key|token|secret|password|passwd|credentials?)$")
HIDDEN: Final = "[key]"


class LangChainEndpoint:
    """Any LangChain chat model. Tools by `bind_tools`, JSON by `with_structured_output`."""

    forms: tuple[Form, ...] | None = None

    def __init__(self, chat: BaseChatModel, *, identity: Mapping[str, Any]) -> None:
        self.chat, self.identity = chat, dict(identity)
        self._secrets = _secrets_of_environment()

    def complete(self, request: ChatRequest) -> Completion:
        """One request through the provider's own client. Raises FormRefused, or whatever that client raises."""
        return _completion(self._invoke(request, [message_of(turn) for turn in request.turns]))

    def without_secrets(self, text: str) -> str:
        """`text` with every API key of the environment replaced."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def without_parameter(self, name: str) -> bool:
        """Leave out a temperature that is refused; False when it is out already, and for every other parameter."""
        if name != "temperature" or getattr(self.chat, "temperature", None) is None:
            return False
        self.chat = self.chat.model_copy(update={"temperature": None})
        return True

    def _invoke(self, request: ChatRequest, messages: list[dict[str, Any]]) -> AIMessage:
        if request.form == "text":
            return self.chat.invoke(messages)
        try:
            if request.form == "tools":
                return self.chat.bind_tools([function_of(tool) for tool in request.tools]).invoke(messages)
            schema = {"title": "answer", "description": "The answer.", **(request.schema or {"type": "object"})}
            method = "json_schema" if request.form == "json_schema" else "json_mode"
            bound = self.chat.with_structured_output(schema, method=method, include_raw=True)
        except (NotImplementedError, ValueError, TypeError) as error:
            raise FormRefused(f"{request.form}: {error}") from error
        found = bound.invoke(messages)
        return found["raw"]  # type: ignore[index]  # a mapping, by include_raw


class OpenAIEndpoint(LangChainEndpoint):
    """OpenAI's API and all servers that speak it (vLLM, Ollama, LM Studio, llama.cpp).

    The form of the request travels as `extra_body`: given as `response_format`, the client raises an error for a reply
    that was cut off or filtered, and the text that came is lost.
    """

    def __init__(self, chat: BaseChatModel, *, identity: Mapping[str, Any], official: bool, temperature: float) -> None:
        super().__init__(chat, identity=identity)
        self._official, self._temperature = official, temperature
        self._left_out: frozenset[str] = frozenset()

    def without_parameter(self, name: str) -> bool:
        """Leave `name` out of later requests; False when it is out already. Token limits have two names."""
        if name in self._left_out or name not in ("temperature", "max_tokens", "max_completion_tokens"):
            return False
        self._left_out |= {name}
        return True

    def _invoke(self, request: ChatRequest, messages: list[dict[str, Any]]) -> AIMessage:
        options: dict[str, Any] = {"extra_body": self._body(request)}
        if request.form == "tools":
            options["tools"] = [function_of(tool, strict=self._official) for tool in request.tools]
        return self.chat.invoke(messages, **options)

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {}
        names = ("max_completion_tokens", "max_tokens")
        limit = next((n for n in (names if self._official else names[::-1]) if n not in self._left_out), None)
        if limit:
            body[limit] = request.max_tokens
        if "temperature" not in self._left_out:
            body["temperature"] = self._temperature
        if request.form == "json_schema":
            wrapped = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": wrapped}
        elif request.form == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body


def message_of(turn: Turn) -> dict[str, Any]:
    """One message as LangChain reads it."""
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.role == "tool":
        message |= {"tool_call_id": turn.call_id, "name": turn.tool}
    if turn.calls:
        message["tool_calls"] = [{"name": c.name, "args": dict(c.arguments), "id": c.id} for c in turn.calls]
    return message


def function_of(tool: ToolSpec, *, strict: bool = False) -> dict[str, Any]:
    """A tool in OpenAI's notation, which LangChain translates for the others."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)}
    return {"type": "function", "function": function | ({"strict": True} if strict else {})}


def address_without_secrets(address: str) -> str:
    """The address without a user, a password, or parameters that are keys."""
    parts = urlsplit(address)
    host = parts.netloc.rsplit("@", 1)[-1]
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query) if not SECRET_NAME.search(k)])
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), query, ""))


def _secrets_of_environment() -> tuple[str, ...]:
    """Values of variables that are named like keys, and passwords in addresses; the longest first."""
    found = {v for k, v in os.environ.items() if SECRET_VARIABLE.search(k) and len(v) > 5}
    for name, value in os.environ.items():
        if name.endswith(("_URL", "_BASE", "_HOST", "_ENDPOINT")) and "://" in value:
            parts = urlsplit(value)
            found |= {v for k, v in parse_qsl(parts.query) if SECRET_NAME.search(k) and len(v) > 5}
            found |= {parts.password} if parts.password and len(parts.password) > 3 else set()
    return tuple(sorted(found, key=len, reverse=True))


def _completion(message: AIMessage) -> Completion:
    text = message.text if isinstance(message.text, str) else str(message.content)
    about = message.response_metadata
    finish = str(about.get("finish_reason") or about.get("stop_reason") or about.get("done_reason") or "stop").lower()
    finish = "length" if finish in CUT_OFF else "content_filter" if finish in FILTERED else finish
    refusal = str(message.additional_kwargs.get("refusal") or "")
    if finish == "refusal" and not refusal:
        refusal = text or "no reason given"
    called = [(one["name"], one["args"], one["id"]) for one in message.tool_calls]
    called += [(one["name"] or "", {"not JSON": one["args"] or ""}, one["id"]) for one in message.invalid_tool_calls]
    calls = tuple(ToolCall(name, arguments, id_ or f"call_{i}") for i, (name, arguments, id_) in enumerate(called))
    return Completion(text, calls, finish, refusal, _usage(message))


def _usage(message: AIMessage) -> Usage | None:
    said = message.usage_metadata
    if not said or not (said["input_tokens"] or said["output_tokens"]):
        return None  # servers that do not count say zero
    return Usage(said["input_tokens"], said["output_tokens"])
