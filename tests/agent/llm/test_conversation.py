"""Conversations with tools and repairs, fed from a queue of completions; no network."""

import json

import pytest
from pydantic import BaseModel, field_validator
from pydantic_core import PydanticCustomError

from agent.errors import ModelFault
from agent.llm.chat import Completion, ToolCall
from agent.llm.conversation import Conversation
from agent.llm.protocol import Tool
from agent.llm.structured_output import ECHO
from maps_engine.errors import OutOfRange
from tests.support.agent.llm_parts import GOOD, Named, Tokens, rows_tool

ANSWER = json.dumps(GOOD)


class Queue:
    """Completions in order; keeps the requests."""

    def __init__(self, *completions):
        self.left, self.requests = list(completions), []

    def __call__(self, request):
        self.requests.append(request)
        return self.left.pop(0)


def talk(queue, form, *, tools=(), calls=4, repairs=1, fallback="text"):
    return Conversation(queue, Named, form, 200, tools, calls if tools else 0, repairs, lambda: fallback)


def calls(*named):
    return Completion("", tuple(ToolCall(name, arguments, f"c{i}") for i, (name, arguments) in enumerate(named)))


def step(action, **rest):
    return Completion(json.dumps({"step": {"action": action} | rest}))


def test_tools_are_called_natively_until_the_answer_is_called():
    seen: list[list[str]] = []
    queue = Queue(calls(("rows", {"tokens": ["a", "b"]})), calls(("answer", GOOD)))
    conversation = talk(queue, "tools", tools=[rows_tool(seen)])
    answer, raw = conversation.run("What?", "Be brief.")
    assert (answer, json.loads(raw), seen) == (Named(**GOOD), GOOD, [["a", "b"]])
    first, second = queue.requests
    assert [tool.name for tool in first.tools] == ["rows", "answer"]
    assert [turn.role for turn in second.turns] == ["system", "user", "assistant", "tool"]
    assert (second.turns[-1].text, second.turns[-1].call_id, second.turns[-1].tool) == ("2 rows", "c0", "rows")
    assert first.turns[0].text.startswith("Be brief.\n\n")
    assert "at most 4 times" in first.turns[0].text
    assert first.turns[1].text == "What?"  # what is the same for all questions stands before it
    assert [(m.role, m.tool) for m in conversation.messages] == [
        ("system", ""), ("user", ""), ("assistant", "rows"), ("tool", "rows"), ("assistant", "answer"),
    ]  # fmt: skip


def test_tools_are_called_by_steps_where_an_endpoint_knows_none():
    seen: list[list[str]] = []
    queue = Queue(step("rows", arguments={"tokens": ["a"]}), step("answer", answer=GOOD))
    conversation = talk(queue, "json_schema", tools=[rows_tool(seen)])
    answer, raw = conversation.run("What?", "")
    assert (answer, json.loads(raw), seen) == (Named(**GOOD), GOOD, [["a"]])
    options = queue.requests[0].schema["properties"]["step"]["anyOf"]
    assert [option["properties"]["action"]["enum"] for option in options] == [["rows"], ["answer"]]
    shown = queue.requests[1].turns[-1].text
    assert "1 rows" in shown
    assert "Uses of tools left: 3" in shown
    assert [(m.role, m.tool) for m in conversation.messages] == [
        ("user", ""), ("assistant", ""), ("user", "rows"), ("assistant", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["json_object", "text"])
def test_steps_are_told_in_words_without_a_schema(form):
    queue = Queue(
        Completion('Let me look. {"action": "rows", "arguments": {"tokens": ["a"]}}'), Completion(f"Here: {ANSWER}")
    )
    seen: list[list[str]] = []
    answer, _ = talk(queue, form, tools=[rows_tool(seen)]).run("What?", "")
    assert (answer.confidence, seen) == (8, [["a"]])
    assert queue.requests[0].schema is None
    assert "- rows: Rows of tokens." in queue.requests[0].turns[0].text


def test_when_uses_are_spent_only_the_answer_is_offered():
    seen: list[list[str]] = []
    one = {"tokens": ["a"]}
    queue = Queue(calls(("rows", one)), calls(("rows", one)), calls(("answer", GOOD)))
    talk(queue, "tools", tools=[rows_tool(seen)], calls=2).run("What?", "")
    assert [[t.name for t in r.tools] for r in queue.requests] == [["rows", "answer"], ["rows", "answer"], ["answer"]]
    queue = Queue(step("rows", arguments=one), step("answer", answer=GOOD))
    talk(queue, "json_schema", tools=[rows_tool(seen)], calls=1).run("What?", "")
    assert len(queue.requests[1].schema["properties"]["step"]["anyOf"]) == 1
    assert "answer now" in queue.requests[1].turns[-1].text


@pytest.mark.parametrize("form", ["tools", "json_schema", "text"])
def test_a_model_that_never_answers_is_given_up(form):
    one = {"tokens": ["a"]}
    reply = calls(("rows", one)) if form == "tools" else step("rows", arguments=one)
    queue, seen = Queue(*[reply] * 20), []
    with pytest.raises(ModelFault) as caught:
        talk(queue, form, tools=[rows_tool(seen)], calls=3).run("What?", "")
    assert caught.value.kind == "no answer"
    assert (len(seen), len(queue.requests)) == (3, 5)


def test_many_calls_in_one_reply_count_each():
    seen: list[list[str]] = []
    queue = Queue(calls(*[("rows", {"tokens": [str(i)]}) for i in range(3)]), calls(("answer", GOOD)))
    talk(queue, "tools", tools=[rows_tool(seen)], calls=2, repairs=1).run("What?", "")
    assert seen == [["0"], ["1"]]
    assert "answer now" in queue.requests[1].turns[-1].text


def test_calls_that_make_no_sense_are_told_so_and_go_on():
    class Nothing(BaseModel):
        pass

    def refuses(_):
        raise OutOfRange("no such head", got=99)

    tools = [rows_tool([]), Tool("fails", "Fails.", Nothing, refuses)]
    queue = Queue(
        calls(("rows", {"tokens": "France"}), ("nosuch", {}), ("fails", {}), ("rows", {"not JSON": "{"})),
        calls(("answer", GOOD)),
    )
    talk(queue, "tools", tools=tools).run("What?", "")
    said = [turn.text for turn in queue.requests[1].turns if turn.role == "tool"]
    assert "cannot be used: tokens:" in said[0]
    assert "no tool 'nosuch'; there are rows, fails" in said[1]
    assert "no such head: got 99" in said[2]
    assert "tokens: Field required" in said[3]


def test_an_answer_by_call_that_is_not_valid_is_repaired_by_call():
    queue = Queue(calls(("answer", {"operation": "x"})), calls(("answer", GOOD)))
    answer, _ = talk(queue, "tools", tools=[rows_tool([])]).run("What?", "")
    assert answer.confidence == 8
    assert "not accepted: confidence: Field required" in queue.requests[1].turns[-1].text
    queue = Queue(*[calls(("answer", {"operation": "x"}))] * 2)
    with pytest.raises(ModelFault) as caught:
        talk(queue, "tools", tools=[rows_tool([])]).run("What?", "")
    assert (caught.value.kind, caught.value.raw) == ("wrong types", 'answer {"operation": "x"}')


class OwnWords(BaseModel):
    """An answer that may not repeat the question."""

    operation: str

    @field_validator("operation")
    @classmethod
    def _own(cls, value: str) -> str:
        if value == "river to sea":
            raise PydanticCustomError(ECHO, "this repeats the question")
        return value


def test_an_answer_that_repeats_the_question_is_asked_for_again_and_is_a_fault_of_its_own():
    echo, own = Completion('{"operation": "river to sea"}'), Completion('{"operation": "noun to verb"}')
    queue = Queue(echo, own)
    answer, _ = Conversation(queue, OwnWords, "json_schema", 200).run("What? Such as river to sea.", "")
    assert answer.operation == "noun to verb"
    assert "this repeats the question" in queue.requests[1].turns[-1].text
    with pytest.raises(ModelFault) as caught:
        Conversation(Queue(echo, echo), OwnWords, "json_schema", 200).run("What?", "")
    assert caught.value.kind == ECHO


def test_prose_instead_of_calls_is_asked_again_in_the_strictest_other_form():
    seen: list[list[str]] = []
    queue = Queue(calls(("rows", {"tokens": ["a"]})), Completion("It maps countries."), Completion(ANSWER))
    answer, _ = talk(queue, "tools", tools=[rows_tool(seen)], fallback="json_schema").run("What?", "")
    assert answer.confidence == 8
    last = queue.requests[-1]
    assert (last.form, last.tools) == ("json_schema", ())
    assert set(last.schema["properties"]) == {"operation", "confidence"}
    assert all(turn.role != "tool" and not turn.calls for turn in last.turns)
    assert any("1 rows" in turn.text for turn in last.turns)


def test_json_in_the_text_instead_of_a_call_is_taken():
    queue = Queue(Completion(f"```json\n{ANSWER}\n```"))
    assert talk(queue, "tools", tools=[rows_tool([])]).run("What?", "")[0].confidence == 8


@pytest.mark.parametrize("completion", [Completion("", refusal="no"), Completion("x", finish="content_filter")])
def test_a_refusal_in_the_middle_is_final(completion):
    queue = Queue(calls(("rows", {"tokens": []})), completion)
    with pytest.raises(ModelFault) as caught:
        talk(queue, "tools", tools=[rows_tool([])]).run("What?", "")
    assert caught.value.kind in ("refusal", "content filter")


def test_the_form_is_told_only_where_it_is_not_enforced():
    for form, told in (("json_schema", False), ("json_object", True), ("text", True)):
        queue = Queue(Completion(ANSWER))
        talk(queue, form).run("What?", "")
        assert ("JSON schema" in queue.requests[0].turns[0].text) is told


def test_a_tool_cannot_be_called_answer():
    tool = Tool("answer", "", Tokens, lambda _: "")
    with pytest.raises(ValueError, match="answer"):
        talk(Queue(), "tools", tools=[tool]).run("What?", "")
