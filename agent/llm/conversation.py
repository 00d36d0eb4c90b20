"""One question as a conversation: tools called, natively or by steps in JSON, then an answer that is valid.

Every reply ends in one of four ways: the answer, a tool to run, a problem to show the model (a bounded number of
times), or a ModelFault.

LangChain's `create_agent` with `ToolStrategy` was tried in its place, on the cases of test_conversation.py. It has no
form for endpoints without tool calling. Prose instead of a call, JSON in the text included, ends it without an answer
and without an error; so does a content filter. An invalid answer is asked for again up to the limit of steps (9,999),
not a number of times. `ToolCallLimitMiddleware` bounds the tools that run, but goes on offering them and asking, or
ends without an answer; with `ModelCallLimitMiddleware` beside it the run ends with an error that holds no reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic

from pydantic import ValidationError

from agent.errors import ModelFault
from agent.llm.chat import ChatRequest, Completion, Form, ToolCall, ToolSpec, Turn
from agent.llm.protocol import Answer, Message, Tool
from agent.llm.structured_output import (
    ANSWER_TOOL,
    LAST_STEP,
    BadAnswer,
    answer_form,
    answer_text,
    flattened,
    json_objects,
    native_tools,
    parse_answer,
    problems,
    repair,
    step_schema,
    strict_schema,
    tool_result,
    tools_in_json,
)
from maps_engine.errors import UserMistake

PROTOCOL_VERSION: Final = 2  # raise it when the same question would be put differently
REFUSING: Final = re.compile(r"(?i)\s*(i['’]?m sorry|i am sorry|sorry,|i can(no|['’])t|i am unable|i won['’]t)")


@dataclass
class Conversation(Generic[Answer]):
    """One question under way. `send` puts one request and gives its completion."""

    send: Callable[[ChatRequest], Completion]
    answer: type[Answer]
    form: Form
    max_tokens: int
    tools: Sequence[Tool] = ()
    calls_left: int = 0
    repairs_left: int = 1
    fallback: Callable[[], Form] = lambda: "text"  # once a model that was offered tools answers in prose
    turns: list[Turn] = field(default_factory=list)

    def run(self, prompt: str, system: str) -> tuple[Answer, str]:
        """The answer and the text it was read from. Raises ModelFault."""
        if any(tool.name == ANSWER_TOOL for tool in self.tools):
            raise ValueError(f"no tool may be called {ANSWER_TOOL}")
        # what is the same for all heads comes first: endpoints keep what they have computed for a common beginning
        instructions = self._instructions()
        if system:
            self.turns.append(Turn("system", _joined(system, instructions)))
        self.turns.append(Turn("user", prompt if system else _joined(prompt, instructions)))
        while True:
            completion = self.send(self._request())
            _check_refusal(completion)
            try:
                found = self._on_calls(completion) if completion.calls else self._on_text(completion)
            except BadAnswer as error:
                self._repair(error, completion)
                continue
            if found is not None:
                return found

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript so far."""
        shown = []
        for turn in self.turns:
            if turn.text or not turn.calls:
                shown.append(Message(turn.role, turn.text, turn.tool))
            shown += [Message("assistant", answer_text(call.arguments), call.name) for call in turn.calls]
        return tuple(shown)

    @property
    def _in_steps(self) -> bool:
        return bool(self.tools) and self.form != "tools"

    def _instructions(self) -> str:
        schema = strict_schema(self.answer)
        if self.form == "tools":
            return native_tools(self.calls_left if self.tools else 0)
        if self._in_steps:
            return tools_in_json(self._specs(), schema, self.calls_left)
        return "" if self.form == "json_schema" else answer_form(schema)

    def _specs(self) -> tuple[ToolSpec, ...]:
        return tuple(ToolSpec(t.name, t.description, strict_schema(t.arguments)) for t in self.tools)

    def _request(self) -> ChatRequest:
        schema = strict_schema(self.answer)
        offered = self._specs() if self.calls_left > 0 else ()
        if self.form == "tools":
            final = ToolSpec(ANSWER_TOOL, "Give the answer.", schema)
            return ChatRequest(tuple(self.turns), "tools", self.max_tokens, tools=(*offered, final))
        if self.form == "json_schema":
            bound = step_schema(offered, schema) if self._in_steps else schema
            return ChatRequest(flattened(self.turns), "json_schema", self.max_tokens, schema=bound)
        return ChatRequest(flattened(self.turns), self.form, self.max_tokens)

    def _on_calls(self, completion: Completion) -> tuple[Answer, str] | None:
        """Run what was called, or take the answer that was given by a call."""
        self.turns.append(Turn("assistant", completion.text, completion.calls))
        problem: BadAnswer | None = None
        for call in completion.calls:
            if call.name != ANSWER_TOOL:
                self.turns.append(Turn("tool", self._result(call.name, call.arguments), (), call.id, call.name))
                continue
            text = answer_text(call.arguments)
            try:
                return parse_answer(text, self.answer), text
            except BadAnswer as error:
                problem = error
                self.turns.append(Turn("tool", f"not accepted: {error.problem}", (), call.id, call.name))
        if problem is not None:
            raise problem
        return None

    def _on_text(self, completion: Completion) -> tuple[Answer, str] | None:
        """The answer in the text, or the step that it asks for."""
        text = completion.text
        if self._in_steps:
            step = _first_step(text)
            if step is not None and step.get("action") != ANSWER_TOOL:
                self.turns.append(Turn("assistant", text))
                self._run_step(step)
                return None
            if step is not None and isinstance(step.get("answer"), dict):
                text = answer_text(step["answer"])
        try:
            found = parse_answer(text, self.answer)
        except BadAnswer as error:
            if completion.finish == "length":
                raise BadAnswer("cut off", f"the reply was cut off after {self.max_tokens} tokens") from error
            if error.kind == "not json" and REFUSING.match(text):
                raise ModelFault("refusal", f"the model refused: {text[:300]}", raw=text) from error
            raise
        self.turns.append(Turn("assistant", completion.text))
        return found, text

    def _run_step(self, step: Mapping[str, Any]) -> None:
        name, arguments = str(step.get("action", "")), step.get("arguments")
        result = self._result(name, arguments if isinstance(arguments, dict) else {})
        self.turns.append(Turn("user", tool_result(name, result, max(self.calls_left, 0)), tool=name))

    def _result(self, name: str, arguments: Mapping[str, Any]) -> str:
        """What the tool says; never an exception for a call that makes no sense."""
        self.calls_left -= 1
        if self.calls_left < -self.repairs_left:
            raise ModelFault("no answer", "the model went on calling tools instead of answering", raw=name)
        if self.calls_left < 0:
            return LAST_STEP
        tool = next((tool for tool in self.tools if tool.name == name), None)
        if tool is None:
            return f"there is no tool {name!r}; there are {', '.join(tool.name for tool in self.tools)}"
        try:
            return tool.run(tool.arguments.model_validate(dict(arguments)))
        except ValidationError as error:
            return f"these arguments cannot be used: {problems(error)}"
        except UserMistake as error:
            return f"this cannot be done: {error.one_line()}"

    def _repair(self, error: BadAnswer, completion: Completion) -> None:
        """Show the model its mistake, or give up."""
        if self.repairs_left <= 0:
            reason = error.problem if error.kind in ("empty", "cut off") else f"the reply cannot be used: {error}"
            raise ModelFault(error.kind, reason, raw=completion.text or _calls_text(completion.calls)) from error
        self.repairs_left -= 1
        if completion.calls:
            return  # the tool's answer says what is wrong
        if completion.text.strip():
            self.turns.append(Turn("assistant", completion.text))
        if self.form == "tools":
            self.form, self.tools = self.fallback(), ()
            told = answer_form(strict_schema(self.answer))
            self.turns.append(Turn("user", f"{repair(error.problem)}\n\n{told}"))
        else:
            self.turns.append(Turn("user", repair(error.problem)))


def _joined(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))


def _check_refusal(completion: Completion) -> None:
    if completion.refusal:
        raise ModelFault("refusal", f"the model refused: {completion.refusal[:300]}", raw=completion.refusal)
    if completion.finish == "content_filter":
        raise ModelFault("content filter", "the endpoint's content filter stopped the reply", raw=completion.text)


def _first_step(text: str) -> Mapping[str, Any] | None:
    for found in json_objects(text):
        step = found.get("step", found)
        if isinstance(step, dict) and isinstance(step.get("action"), str):
            return step
    return None


def _calls_text(calls: Sequence[ToolCall]) -> str:
    return "\n".join(f"{call.name} {answer_text(call.arguments)}" for call in calls)
