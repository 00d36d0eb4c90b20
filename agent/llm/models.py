"""Language models by name: `openai:MODEL`, any LangChain provider, `local:PATH_OR_ID`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.errors import ModelFault
from agent.llm.capabilities import PROBES
from agent.llm.conversation import PROTOCOL_VERSION, Conversation
from agent.llm.exchange import ChatEndpoint, ChatRequest, Completion, Form, FormRefused
from agent.llm.limits import RunLimits
from agent.llm.options import ModelOptions, checked
from agent.llm.protocol import Answer, LanguageModel, Reply, Tool
from agent.llm.providers import open_endpoint
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

    Raises UnknownDescriber, ExtraMissing, UserMistake.
    """
    options = checked(options or ModelOptions())
    endpoint = open_endpoint(name, options)
    return AskedModel(name, options, Sender(name, endpoint, limits or RunLimits.of(options), options, sleep))


@dataclass
class AskedModel:
    """A LanguageModel on top of an endpoint: the form of requests chosen, conversations led, replies kept."""

    name: str
    options: ModelOptions
    sender: Sender
    _known: dict[Form, bool] = field(default_factory=dict, repr=False)
    _refused: set[tuple[Form, str]] = field(default_factory=set, repr=False)
    _probing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that can change its answers besides the question; never a key."""
        templates = load_prompts().templates
        versions = {name: one.version for name, one in sorted(templates.items()) if name.startswith("llm_")}
        return dict(self._endpoint.identity) | {
            "max_tokens": self.options.max_tokens,
            "form": self.options.mode,
            "repairs": self.options.repairs,
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
        offered = tuple(tools) if max_tool_calls > 0 else ()
        for form in self._forms(bool(offered), tally):
            if (form, answer.__name__) in self._refused:
                continue
            talk = Conversation(
                lambda request: self._send(request, tally),
                answer,
                form,
                self.options.max_tokens,
                offered,
                max_tool_calls if offered else 0,
                self.options.repairs,
                next(f for f in self._forms(False, tally) if f != "tools") if form == "tools" else "text",
            )
            try:
                found, raw = talk.run(prompt, system)
            except FormRefused as error:
                self._refused.add((form, answer.__name__))
                refusal = str(error)
                continue
            return Reply(found, raw, talk.messages, tally.usage, tally.requests)
        raise ModelFault("bad request", f"the endpoint refused the request: {refusal}")

    @property
    def _endpoint(self) -> ChatEndpoint:
        return self.sender.endpoint

    def _send(self, request: ChatRequest, tally: Tally) -> Completion:
        return self.sender.send(request, tally)

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

    def _takes(self, form: Form, tally: Tally) -> bool:
        known = self._endpoint.forms
        if known is not None:
            return form in known
        with self._probing:
            if form not in self._known:
                self._known[form] = PROBES[form](lambda request: self._send(request, tally))
            return self._known[form]
