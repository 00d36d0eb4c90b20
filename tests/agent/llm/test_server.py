"""A real llama.cpp server with the real SmolLM2 on loopback, and a proxy of ours in front of it that spoils answers.

The model is small and its words are nonsense: this tests the protocol.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("xllamacpp")

from langchain_openai import ChatOpenAI

from agent.errors import BudgetSpent, ModelFault
from agent.llm.endpoints.capabilities import takes_json, takes_schema, takes_tools
from agent.llm.endpoints.providers import open_endpoint
from agent.llm.models import open_language_model
from agent.llm.options import ModelOptions
from tests.support.agent.fault_server import Act, endpoint
from tests.support.agent.llm_parts import KEY, Named, model_at, rows_tool
from tests.support.llama_server import llama_server

pytestmark = pytest.mark.llm
PROMPT = "A head of a model maps France to Paris and Italy to Rome. What does it do?"
PASS = Act(forward=True)


@pytest.fixture(scope="module")
def server():
    with llama_server() as url:
        yield url


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def model(url, **options):
    chosen = {"max_tokens": 60, "timeout": 240.0} | options
    return open_language_model("openai:smollm2", options=ModelOptions(base_url=f"{url}/v1", **chosen))


def asked(server, acts, **options):
    """(reply or fault, requests) through the proxy."""
    with endpoint(acts, upstream=server) as proxy:
        try:
            reply = model_at(proxy, **{"max_tokens": 60, "timeout": 240.0} | options).ask(PROMPT, Named)
        except ModelFault as fault:
            return fault, len(proxy.requests)
        return reply, len(proxy.requests)


def test_plain_chat_and_streaming(server):
    chat = ChatOpenAI(model="m", base_url=f"{server}/v1", api_key="none", temperature=0, max_completion_tokens=12)
    whole = chat.invoke("Say hello.")
    assert whole.usage_metadata["output_tokens"] <= 12
    parts = [part.text for part in chat.stream("Say hello.")]
    assert len(parts) > 3
    assert "".join(parts) == whole.text


def test_what_this_server_takes(server):
    at = open_endpoint("openai:smollm2", ModelOptions(base_url=f"{server}/v1", timeout=240.0))
    assert takes_schema(at.complete)
    assert not takes_tools(at.complete)  # it takes the request, but so small a model answers in prose
    assert takes_json(at.complete) in (True, False)


def test_schema_answers_and_nothing_asked_the_second_time(server):
    first = model(server)
    reply = first.ask(PROMPT, Named, system="You name operations.")
    assert 0 <= reply.answer.confidence <= 10
    assert reply.requests == 2  # the probe, and the question
    assert reply.usage.read > 50
    assert reply.usage.estimated == 0
    again = model(server).ask(PROMPT, Named, system="You name operations.")
    assert (again.answer, again.requests, again.usage.tokens) == (reply.answer, 0, 0)


def test_tools_by_steps_in_json(server):
    seen: list[list[str]] = []
    reply = model(server, max_tokens=120).ask(PROMPT, Named, tools=[rows_tool(seen)], max_tool_calls=1)
    assert len(seen) <= 1
    steps = [json.loads(m.text)["step"] for m in reply.messages if m.role == "assistant"]
    assert steps[-1]["action"] == "answer"


def test_questions_at_once_within_a_budget(server):
    shared = model(server, in_flight=3, mode="json_schema", token_budget=600, max_tokens=40, use_cache=False)

    def ask(i):
        try:
            return shared.ask(f"Name operation {i}.", Named).usage.tokens
        except BudgetSpent:
            return 0

    with ThreadPoolExecutor(5) as pool:
        taken = list(pool.map(ask, range(5)))
    assert sum(taken) == shared.limits.spent.tokens <= 600
    assert taken.count(0) < 5


@pytest.mark.parametrize(
    "fault",
    [
        Act(forward=True, kept=0.5),
        Act(forward=True, kept=0.5, honest=True),
        Act(cut=True),
        Act(status=429, headers={"retry-after": "0.2"}),
        Act(status=500),
        Act(body=b"<html>bad gateway</html>"),
    ],
    ids=["cut mid-reply", "truncated body", "dropped", "429", "500", "html"],
)
def test_faults_in_front_of_it_pass(server, fault):
    reply, requests = asked(server, [fault, PASS])
    assert (reply.requests, requests) == (2, 2)
    assert 0 <= reply.answer.confidence <= 10


def test_a_delay_is_waited_for_or_timed_out(server):
    reply, requests = asked(server, [Act(forward=True, wait=0.3), PASS])
    assert (requests, reply.requests) == (1, 1)
    fault, requests = asked(server, [Act(forward=True, wait=3.0)], timeout=0.2, retries=1)
    assert (fault.kind, requests) == ("timeout", 2)


def test_a_reply_cut_off_by_its_limit(server):
    fault, requests = asked(server, [PASS], max_tokens=5)
    assert (fault.kind, requests) == ("cut off", 2)
    assert 0 < len(fault.raw) < 60


def test_a_question_longer_than_its_context(server):
    with pytest.raises(ModelFault) as caught:
        model(server, mode="json_schema").ask("word " * 6000, Named)
    assert caught.value.kind == "too long"
