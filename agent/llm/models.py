"""Language models by name: `openai:MODEL`, any LangChain provider, `local:PATH_OR_ID`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.errors import ModelFault
from agent.llm.chat import ChatEndpoint, ChatRequest, Completion, Form, FormRefused
from agent.llm.conversation import PROTOCOL_VERSION, Conversation
from agent.llm.endpoints.capabilities import PROBES
from agent.llm.endpoints.providers import open_endpoint
from agent.llm.limits import RunLimits
from agent.llm.options import ModelOptions, checked
from agent.llm.protocol import Answer, LanguageModel, Reply, Tool
from agent.llm.reply_cache import ReplyCache, key_of
from agent.llm.sender import Sender, Tally
from prompts import load_prompts


def open_language_model(
    name: str,
    *,
    options: ModelOptions | None = None,
    limits: RunLimits | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> LanguageModel:
    """The model of that name; nothing is sent yet. `limits` are shared where several models serve one run.

    `sleep` waits between retries. Raises UnknownDescriber, ExtraMissing, UserMistake.
    """
    options = checked(options or ModelOptions())
    sender = Sender(name, open_endpoint(name, options), limits or RunLimits.of(options), options, sleep)
    return AskedModel(name, options, sender, ReplyCache(options.cache_folder) if options.use_cache else None)


@dataclass
class AskedModel:
    """A LanguageModel on top of an endpoint: the form of requests chosen, conversations led, replies kept."""

    name: str
    options: ModelOptions
    sender: Sender
    cache: ReplyCache | None = None
    _known: dict[str, bool] = field(default_factory=dict, repr=False)
    _refused: set[tuple[Form, str]] = field(default_factory=set, repr=False)
    _probing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that can change its answers besides the question; no API key."""
        templates = load_prompts().templates
        versions = {name: one.version for name, one in sorted(templates.items()) if name.startswith("llm_")}
        return dict(self._endpoint.identity) | {
            "max_tokens": self.options.max_tokens,
            "form": self.options.mode,
            "repairs": self.options.repairs,
            "tool_calls": self._tool_calls,
            "protocol": PROTOCOL_VERSION,
            "protocol_texts": versions,
        }

    @property
    def limits(self) -> RunLimits:
        """What the run has taken and may take."""
        return self.sender.limits

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
        """The model's validated answer; `about` names the question in the log.

        Raises ModelFault, ModelDown, BudgetSpent.
        """
        tally, refusal = Tally(about), "none of the forms of request is taken"
        max_tool_calls = max_tool_calls if self._tool_calls is None else self._tool_calls
        offered = tuple(tools) if max_tool_calls > 0 else ()
        for form in self._forms(bool(offered), tally):
            if (form, answer.__name__) in self._refused:
                continue
            exchange = _Exchange(self.sender, self.cache, tally)
            talk = Conversation(
                exchange.send,
                answer,
                form,
                self.options.max_tokens,
                offered,
                max_tool_calls if offered else 0,
                self.options.repairs,
                lambda: self._fallback(tally),
            )
            try:
                found, raw = talk.run(prompt, system)
            except FormRefused as error:
                self._refused.add((form, answer.__name__))
                refusal = str(error)
                continue
            exchange.keep()
            return Reply(found, raw, talk.messages, tally.usage, tally.requests)
        raise ModelFault("bad request", f"the endpoint refused the request: {refusal}")

    @property
    def _tool_calls(self) -> int | None:
        """Most uses of tools in a question, or None where the asker says.

        Models that run here are small: they ask for more than they can read, and half a minute goes each time.
        """
        if self.options.tool_calls is None and self.name.startswith("local:"):
            return 0
        return self.options.tool_calls

    @property
    def _endpoint(self) -> ChatEndpoint:
        return self.sender.endpoint

    def _forms(self, with_tools: bool, tally: Tally) -> Iterator[Form]:
        """Forms to try, the strictest first: the one that was asked for, or those that the endpoint takes."""
        if self.options.mode != "auto":
            yield self.options.mode
            return
        order: tuple[Form, ...] = ("tools", "json_schema") if with_tools else ("json_schema", "tools")
        for form in (*order, "json_object"):
            if self._takes(form, tally):
                yield form
        yield "text"

    def _fallback(self, tally: Tally) -> Form:
        """How to ask for the answer once more when a model that was offered tools talks instead."""
        if self.options.mode != "auto":
            return "text"
        return next(form for form in self._forms(False, tally) if form != "tools")

    def _takes(self, form: Form, tally: Tally) -> bool:
        known = self._endpoint.forms
        if known is not None:
            return form in known
        with self._probing:
            if not self._known and self.cache:
                self._known |= self.cache.forms(self._forms_key)
            if form not in self._known:
                self._known[form] = PROBES[form](lambda request: self.sender.send(request, tally))
                if self.cache:
                    self.cache.put_forms(self._forms_key, self._known)
            return self._known[form]

    @property
    def _forms_key(self) -> str:
        return key_of(self._endpoint.identity, PROTOCOL_VERSION)


@dataclass
class _Exchange:
    """The requests of one conversation: answered from the cache where it can, kept there once it has ended well."""

    sender: Sender
    cache: ReplyCache | None
    tally: Tally
    fresh: list[tuple[str, Completion]] = field(default_factory=list)

    def send(self, request: ChatRequest) -> Completion:
        key = key_of(self.sender.endpoint.identity, PROTOCOL_VERSION, request)
        kept = self.cache.get(key) if self.cache else None
        if kept is not None:
            return kept
        completion = self.sender.send(request, self.tally)
        self.fresh.append((key, completion))
        return completion

    def keep(self) -> None:
        if self.cache:
            self.cache.put(self.fresh)
