"""Models by name: forms of request probed, providers opened, settings without keys; real HTTP on loopback."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_openai import ChatOpenAI
from openai import OpenAIError

from agent.errors import BudgetSpent, ExtraMissing, ModelDown, ModelFault, UnknownDescriber
from agent.llm.chat import ChatRequest, FormRefused, ToolCall, Turn
from agent.llm.endpoints.langchain_endpoint import LangChainEndpoint, address_without_secrets
from agent.llm.faults import fault_of
from agent.llm.limits import RunLimits
from agent.llm.models import open_language_model
from agent.llm.options import ModelOptions
from maps_engine.errors import UserMistake
from tests.support.agent.fault_server import Act, endpoint
from tests.support.agent.llm_parts import GOOD, KEY, Named, good, model_at, rows_tool

SCHEMA_TAKEN = Act('{"code": "k7-plum"}')
TOOL_CALLED = Act(calls=[("report_code", {"code": "k7-plum"})])
PROSE = Act("I would rather talk about it.")
REFUSED = Act(status=400)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def forms_used(requests):
    return [
        "tools" if "tools" in request else request.get("response_format", {}).get("type", "text")
        for request in requests
    ]


@pytest.mark.parametrize(
    ("acts", "used"),
    [
        ([SCHEMA_TAKEN, good()], ["json_schema"] * 2),
        ([PROSE, TOOL_CALLED, Act(calls=[("answer", GOOD)])], ["json_schema", "tools", "tools"]),
        ([REFUSED, PROSE, Act('{"colour": "blue"}'), good()], ["json_schema", "tools", "json_object", "json_object"]),
        ([REFUSED, REFUSED, REFUSED, good()], ["json_schema", "tools", "json_object", "text"]),
        ([PROSE, PROSE, PROSE, good()], ["json_schema", "tools", "json_object", "text"]),
        ([Act('{"colour": "blue"}'), PROSE, Act("{} is it"), good()], ["json_schema", "tools", "json_object", "text"]),
    ],
)
def test_the_strictest_form_that_really_works_is_used(acts, used):
    with endpoint([*acts, good()]) as server:
        model = model_at(server, mode="auto")
        reply = model.ask("What?", Named)
        assert forms_used(server.requests) == used
        assert reply.requests == len(used)
        model.ask("And?", Named)
        assert forms_used(server.requests)[len(used) :] == used[-1:]  # probed once


def test_with_tools_the_probe_is_for_tools():
    with endpoint([TOOL_CALLED, Act(calls=[("answer", GOOD)])]) as server:
        model_at(server, mode="auto").ask("What?", Named, tools=[rows_tool([])])
    assert forms_used(server.requests)[0] == "tools"
    assert [tool["function"]["name"] for tool in server.requests[-1]["tools"]] == ["rows", "answer"]


def test_tools_by_steps_where_only_a_schema_is_taken():
    steps = [
        {"step": {"action": "rows", "arguments": {"tokens": ["a"]}}},
        {"step": {"action": "answer", "answer": GOOD}},
    ]
    seen: list[list[str]] = []
    with endpoint([PROSE, SCHEMA_TAKEN, *(Act(json.dumps(step)) for step in steps)]) as server:
        reply = model_at(server, mode="auto").ask("What?", Named, tools=[rows_tool(seen)])
    assert (reply.answer, seen, reply.requests) == (Named(**GOOD), [["a"]], 4)
    assert forms_used(server.requests) == ["tools"] + ["json_schema"] * 3


def test_many_threads_probe_once():
    with endpoint([SCHEMA_TAKEN, good()]) as server, ThreadPoolExecutor(6) as pool:
        model = model_at(server, mode="auto")
        list(pool.map(lambda i: model.ask(f"What {i}?", Named), range(6)))
    assert len(server.requests) == 7


def test_a_probe_that_could_not_be_made_is_no_finding():
    with endpoint([Act(status=500), SCHEMA_TAKEN, good()]) as server:
        model = model_at(server, mode="auto", retries=0)
        with pytest.raises(ModelFault):
            model.ask("What?", Named)
        assert model.ask("What?", Named).answer.confidence == 8
    assert forms_used(server.requests)[-1] == "json_schema"


def test_a_schema_that_is_refused_though_schemas_are_taken():
    with endpoint([SCHEMA_TAKEN, REFUSED, PROSE, Act("{}"), good()]) as server:
        model = model_at(server, mode="auto")
        assert model.ask("What?", Named).answer.confidence == 8
        model.ask("And?", Named)
    assert forms_used(server.requests) == ["json_schema"] * 2 + ["tools"] + ["json_object"] * 3


def test_a_form_that_was_asked_for_is_not_replaced():
    with endpoint([REFUSED]) as server, pytest.raises(ModelFault, match="refused the request") as caught:
        model_at(server, mode="json_object").ask("What?", Named)
    assert (caught.value.kind, len(server.requests)) == ("bad request", 1)


def test_a_budget_stops_before_the_request_that_would_pass_it():
    with endpoint([good()]) as server:
        model = model_at(server, token_budget=400, max_tokens=100)
        found = [_outcome(lambda i=i: model.ask(f"What {i}?", Named)) for i in range(60)]
    assert found[0] == "answered"
    assert found[-1] == "stopped"
    assert found == sorted(found)  # once stopped, always stopped
    assert model.limits.spent.tokens <= 400
    assert len(server.requests) == model.limits.spent.tokens // 15


def _outcome(ask):
    try:
        ask()
    except BudgetSpent:
        return "stopped"
    return "answered"


def test_limits_can_be_shared_by_models():
    limits = RunLimits(token_budget=10_000)
    with endpoint([good()]) as server:
        options = ModelOptions(base_url=server.url, mode="json_schema", use_cache=False)
        for name in ("openai:a", "openai:b"):
            open_language_model(name, options=options, limits=limits).ask("What?", Named)
    assert (limits.requests, limits.spent.tokens) == (2, 30)


def test_usage_that_is_not_reported_is_an_estimate():
    with endpoint([Act(json.dumps(GOOD), usage=None)]) as server:
        reply = model_at(server).ask("What does this head do?", Named)
    assert reply.usage.estimated == 1
    assert reply.usage.read > 0
    assert reply.usage.written > 0
    with endpoint([Act(json.dumps(GOOD), usage=(0, 0))]) as server:
        assert model_at(server).ask("What?", Named).usage.estimated == 1


def test_settings_hold_what_can_change_answers_and_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:hunter2secret@host.example/v1/?api_key=abcdefgh&api-version=3")
    model = open_language_model("openai:m")
    text = json.dumps(dict(model.settings))
    assert all(secret not in text for secret in (KEY, "hunter2secret", "abcdefgh"))
    assert model.settings["base_url"] == "https://host.example/v1?api-version=3"
    assert {"provider", "model", "temperature", "max_tokens", "form", "protocol", "protocol_texts"} <= set(
        model.settings
    )
    assert address_without_secrets("http://[::1]:80/v1") == "http://[::1]:80/v1"


def test_names_that_cannot_be(monkeypatch):
    for name in ("openai:", "gpt", ":", "openai: "):
        with pytest.raises(UnknownDescriber, match="provider and a model"):
            open_language_model(name)
    with pytest.raises(UnknownDescriber, match="nosuch"):
        open_language_model("nosuch:model")
    with pytest.raises(UserMistake, match="no such model"):
        open_language_model("local:./nowhere")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UnknownDescriber, match="OPENAI_API_KEY"):
        open_language_model("openai:m")


@pytest.mark.parametrize(
    ("name", "package"),
    [("anthropic:x", "langchain-anthropic"), ("ollama:x", "langchain-ollama"), ("mistralai:x", "langchain-mistralai")],
)
def test_a_missing_package_is_named(name, package):
    with pytest.raises(ExtraMissing, match=f"pip install {package}") as caught:
        open_language_model(name)
    assert "\n" not in caught.value.one_line()


def langchain_at(server):
    chat = ChatOpenAI(model="m", base_url=server.url, api_key=KEY, max_retries=0, max_completion_tokens=50)
    return LangChainEndpoint(chat, identity={"provider": "any", "model": "m"})


@pytest.mark.parametrize("form", ["json_schema", "json_object", "text"])
def test_any_langchain_model_in_every_form(form):
    request = ChatRequest(
        (Turn("system", "s"), Turn("user", "JSON?")), form, 50, schema={"type": "object", "properties": {}}
    )
    with endpoint([good()]) as server:
        completion = langchain_at(server).complete(request)
    assert (json.loads(completion.text), completion.usage.tokens, completion.finish) == (GOOD, 15, "stop")
    assert forms_used(server.requests) == [form]


@pytest.mark.parametrize(("finish", "kind"), [("length", "cut off"), ("content_filter", "content filter")])
def test_clients_that_raise_for_a_reply_that_did_not_end_well(finish, kind):
    """The openai client does where the schema travels as `response_format`, as with other providers that use it."""
    request = ChatRequest((Turn("user", "JSON?"),), "json_schema", 50, schema={"type": "object", "properties": {}})
    with (
        endpoint([Act('{"operation": "cou', finish=finish)]) as server,
        pytest.raises(OpenAIError) as caught,
    ):
        langchain_at(server).complete(request)
    fault = fault_of(caught.value, timeout=1)
    assert (fault.kind, fault.passes, fault.may_have_cost) == (kind, False, True)


def test_any_langchain_model_asks_without_a_temperature_that_is_refused():
    with endpoint([good()]) as server:
        at = langchain_at(server)
        at.chat.temperature = 0.0
        assert at.without_parameter("temperature")
        assert not at.without_parameter("temperature")
        at.complete(ChatRequest((Turn("user", "x"),), "text", 5))
    assert "temperature" not in server.requests[0]


def test_any_langchain_model_with_tools():
    from agent.llm.conversation import Conversation

    seen: list[list[str]] = []
    acts = [Act(calls=[("rows", {"tokens": ["a"]}), ("rows", "{broken")]), Act(calls=[("answer", GOOD)])]
    with endpoint(acts) as server:
        talk = Conversation(langchain_at(server).complete, Named, "tools", 50, [rows_tool(seen)], 4)
        assert talk.run("What?", "")[0].confidence == 8
    assert seen == [["a"]]
    sent = server.requests[1]["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool"]
    assert "cannot be used" in sent[3]["content"]


def test_a_model_without_a_form_says_so():
    class Plain:
        def bind_tools(self, _):
            raise NotImplementedError

        def with_structured_output(self, *_, **__):
            raise ValueError("method must be one of")

    plain = LangChainEndpoint(Plain(), identity={})  # type: ignore[arg-type]
    for form in ("tools", "json_schema", "json_object"):
        with pytest.raises(FormRefused):
            plain.complete(ChatRequest((Turn("user", "x"),), form, 5))


def test_replies_of_a_stopped_run_are_not_waited_for():
    with endpoint([Act(status=401)]) as server, ThreadPoolExecutor(4) as pool:
        model = model_at(server, in_flight=1)
        found = [pool.submit(model.ask, f"What {i}?", Named) for i in range(8)]
        assert all(isinstance(one.exception(20), ModelDown) for one in found)
    assert len(server.requests) == 1


def test_tool_calls_without_an_id_get_one():
    from langchain_core.messages import AIMessage

    from agent.llm.endpoints.langchain_endpoint import _completion

    message = AIMessage("", tool_calls=[{"name": "rows", "args": {}, "id": None, "type": "tool_call"}])
    assert _completion(message).calls == (ToolCall("rows", {}, "call_0"),)
