"""A language model behind any OpenAI-compatible endpoint (LangChain's ChatOpenAI).

Output is asked for by JSON schema first, then JSON mode, then plain text, since endpoints differ in what they take;
the reply is validated again either way. Passing faults (429, 5xx, cut connections) are tried again a few times; a
fault that stays is a `failed` description with its reason and the raw reply, never an exception.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from agent.describers.prompting import PROMPT, BadReply, describe_prompt, first_object, parse_reply, reply_schema
from agent.errors import UnknownDescriber
from agent.results import Evidence, HeadDescription
from agent.token_usage import NO_USAGE, Usage, count
from prompts import load_prompts

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

MODES: Final = ("json_schema", "json_object", "text")
RETRIES: Final = 2
TIMEOUT: Final = 60.0
LONGEST_WAIT: Final = 20.0
MAX_TOKENS: Final = 900
CUT_OFF: Final = f"the reply was cut off after {MAX_TOKENS} tokens"
FILTERED: Final = "the endpoint's content filter stopped the reply"


class _Failed(Exception):
    """A request that will not succeed: why, and what came back if anything."""

    def __init__(self, reason: str, raw: str = "") -> None:
        super().__init__(reason)
        self.reason, self.raw = reason, raw


class OpenAIDescriber:
    """`openai:MODEL`. Base URL and key from the arguments, else OPENAI_BASE_URL and OPENAI_API_KEY."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not model:
            raise UnknownDescriber("the describer needs a model", got="openai:", expected="openai:MODEL")
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE")
        self._key = api_key or os.environ.get("OPENAI_API_KEY") or ""
        if not self._key and not self._base_url:
            raise UnknownDescriber(
                "no key and no address for an OpenAI-compatible model",
                next_step="Set OPENAI_API_KEY, or OPENAI_BASE_URL for your own server; or use --describer lexical.",
            )
        self._model, self._timeout, self._retries, self._sleep = model, timeout, retries, sleep
        self._modes: tuple[str, ...] = MODES  # narrowed once an endpoint refuses one
        self.name = f"openai:{model}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """What can change the answer; never the key."""
        templates = load_prompts().templates
        return {
            "model": self._model,
            "base_url": self._base_url or "default",
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "prompt": templates[PROMPT].version,
            "system": templates["system"].version,
        }

    def describe(self, evidence: Evidence) -> HeadDescription:
        """The model's description, or a failed one with the reason and the raw reply."""
        raw, problem = "", "the endpoint takes none of the known output formats"
        for mode in self._modes:
            try:
                raw = self._ask(describe_prompt(evidence), mode, reply_schema())
                return parse_reply(raw, describer=self.name, settings=dict(self.settings), n_rows=len(evidence.rows))
            except BadReply as error:
                problem = f"the reply cannot be used: {error}"
            except _ModeRefused as error:
                problem = f"the endpoint refused the request: {error}"
                self._modes = tuple(m for m in self._modes if m != mode) or ("text",)
            except _Failed as error:
                raw, problem = error.raw, error.reason
                break
        return HeadDescription(
            status="failed",
            describer=self.name,
            reason=self._without_key(problem),
            raw_reply=self._without_key(raw),
            settings=dict(self.settings),
        )

    def propose_pairs(
        self, description: HeadDescription, *, n: int, excluded: Sequence[str]
    ) -> Sequence[tuple[str, str]]:
        """New pairs for a description of this model's own; none when it answers badly."""
        prompt = (
            load_prompts()
            .templates["propose_pairs"]
            .fill(
                operation=json.dumps(description.operation),
                observed_pattern=json.dumps(description.observed_pattern),
                n_pairs=str(n),
                excluded=", ".join(json.dumps(word) for word in excluded),
            )
        )
        for mode in self._modes:
            try:
                return _pairs_in(self._ask(prompt, mode, _pairs_schema()))
            except (BadReply, _ModeRefused):
                continue
            except _Failed:
                break
        return ()

    def _ask(self, prompt: str, mode: str, schema: dict[str, Any]) -> str:
        """The text of one reply. Raises _ModeRefused, _Failed."""
        import openai

        waits = 0
        while True:
            try:
                message = self._invoke(prompt, mode, schema)
                said = message.usage_metadata
                count(Usage(said["input_tokens"], said["output_tokens"]) if said else NO_USAGE)
                return _text_of(message)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                raise _ModeRefused(_short(error)) from error
            except (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError) as error:
                if waits >= self._retries or getattr(error, "code", None) == "insufficient_quota":
                    raise _Failed(_reason(error, waits + 1, self._timeout)) from error
                self._sleep(_wait_for(error, waits))
                waits += 1
            except openai.LengthFinishReasonError as error:
                raise _Failed(CUT_OFF, _content_of(error.completion)) from error
            except openai.ContentFilterFinishReasonError as error:
                raise _Failed(FILTERED) from error
            except openai.OpenAIError as error:
                raise _Failed(_reason(error, waits + 1, self._timeout)) from error
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                # langchain-openai meets a body of another shape with whichever of these comes first
                raise _Failed(f"the endpoint's answer is no chat completion: {_short(error)}") from error

    def _invoke(self, prompt: str, mode: str, schema: dict[str, Any]) -> AIMessage:
        from langchain_openai import ChatOpenAI
        from pydantic import SecretStr

        chat = ChatOpenAI(
            model=self._model,
            base_url=self._base_url,
            api_key=SecretStr(self._key or "none"),
            temperature=0,
            timeout=self._timeout,
            max_retries=0,
            max_completion_tokens=MAX_TOKENS,
        )
        messages = [("system", load_prompts().templates["system"].text), ("user", prompt)]
        return chat.invoke(messages, **_response_format(mode, schema))

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if len(self._key) > 3 else text


class _ModeRefused(Exception):
    """The endpoint does not take this output format."""


def _response_format(mode: str, schema: dict[str, Any]) -> dict[str, Any]:
    if mode == "json_schema":
        wrapped = {"name": "answer", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": wrapped}}
    return {"response_format": {"type": "json_object"}} if mode == "json_object" else {}


def _text_of(message: AIMessage) -> str:
    """The reply's text; _Failed when the model refused or was cut off."""
    text = message.text if isinstance(message.text, str) else str(message.content)
    refusal = message.additional_kwargs.get("refusal")
    if refusal:
        raise _Failed(f"the model refused: {str(refusal)[:300]}", str(refusal))
    finish = message.response_metadata.get("finish_reason")
    if finish == "content_filter":
        raise _Failed(FILTERED, text)
    if finish == "length":
        raise _Failed(CUT_OFF, text)
    return text


def _content_of(completion: Any) -> str:
    """What a reply that was cut off said so far."""
    return next((choice.message.content or "" for choice in completion.choices), "")


def _wait_for(error: Exception, waits: int) -> float:
    """Retry-After where it is given, else 1, 2, 4 … s with jitter; never beyond the cap."""
    response = getattr(error, "response", None)
    given = response.headers.get("retry-after", "") if response is not None else ""
    try:
        return min(max(float(given), 0.0), LONGEST_WAIT)
    except ValueError:
        return min(2.0**waits * random.uniform(0.75, 1.25), LONGEST_WAIT)


def _reason(error: Exception, requests: int, timeout: float) -> str:
    import openai

    times = f" ({requests} requests)" if requests > 1 else ""
    if isinstance(error, openai.APITimeoutError):
        return f"no answer within {timeout:g} s{times}"
    if isinstance(error, openai.APIConnectionError):
        return f"the endpoint cannot be reached{times}: {_short(error.__cause__ or error)}"
    status = getattr(error, "status_code", None)
    return f"the endpoint answered {status}{times}: {_short(error)}" if status else _short(error)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _pairs_schema() -> dict[str, Any]:
    word = {"type": "string", "maxLength": 40}
    pair = {
        "type": "object",
        "properties": {"source": word, "target": word},
        "required": ["source", "target"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"pairs": {"type": "array", "items": pair}},
        "required": ["pairs"],
        "additionalProperties": False,
    }


def _pairs_in(text: str) -> list[tuple[str, str]]:
    pairs = first_object(text).get("pairs")
    if not isinstance(pairs, list):
        raise BadReply("no list of pairs in the reply")
    return [
        (pair["source"], pair["target"])
        for pair in pairs
        if isinstance(pair, dict) and all(isinstance(pair.get(key), str) for key in ("source", "target"))
    ]
