"""Everything that can go wrong between us and an endpoint, over real HTTP on loopback."""

import json
import logging
import socket
import time
from email.utils import formatdate

import pytest
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelNotFoundError,
    ModelRateLimitError,
    ModelTimeoutError,
)

from agent.errors import ModelDown, ModelFault
from agent.llm.faults import fault_of
from tests.support.agent.fault_server import Act, endpoint
from tests.support.agent.llm_parts import GOOD, KEY, Named, good, model_at


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def asked(acts, **options):
    """(reply or error, requests seen, seconds it would have slept)."""
    slept: list[float] = []
    with endpoint(acts) as server:
        model = model_at(server, sleep=slept.append, **options)
        try:
            return model.ask("What?", Named, about="head 3.4"), server.requests, slept
        except (ModelFault, ModelDown) as error:
            return error, server.requests, slept


def test_a_good_reply():
    reply, requests, slept = asked([good()])
    assert (reply.answer, json.loads(reply.raw)) == (Named(**GOOD), GOOD)
    assert (reply.usage.read, reply.usage.written, reply.usage.estimated, reply.requests) == (10, 5, 0, 1)
    assert [m.role for m in reply.messages] == ["user", "assistant"]
    assert slept == []
    assert requests[0]["temperature"] == 0
    assert requests[0]["max_tokens"] == 1200
    assert requests[0]["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_passing_faults_are_retried_with_growing_waits_by_chance(status):
    reply, requests, slept = asked([Act(status=status)] * 3 + [good()])
    assert reply.answer.confidence == 8
    assert (len(requests), reply.requests) == (4, 4)
    assert len(slept) == 3
    assert all(0 <= wait <= most for wait, most in zip(slept, (1, 2, 4), strict=True))


@pytest.mark.parametrize(("status", "kind"), [(429, "rate limit"), (500, "server"), (503, "server"), (504, "timeout")])
def test_faults_that_stay_end_after_a_number_of_tries(status, kind):
    fault, requests, slept = asked([Act(status=status)], retries=2)
    assert (type(fault), fault.kind, len(requests), len(slept)) == (ModelFault, kind, 3, 2)
    assert f"{status}" in fault.reason
    assert "(3 requests)" in fault.reason


def test_retries_end_after_a_total_time():
    fault, requests, slept = asked([Act(status=500)], retries=1000, retry_seconds=20)
    assert fault.kind == "server"
    assert sum(slept) <= 20
    assert len(requests) < 100


def test_retry_after_in_seconds_is_kept():
    started = time.monotonic()
    reply, requests, slept = asked([Act(status=429, headers={"retry-after": "0.3"}), good()])
    assert reply.requests == len(requests) == 2
    assert slept == []  # the whole run pauses, not this thread alone
    assert 0.3 <= time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after-ms": "250"}, 0.25, 0.25),
        ({"retry-after": "-5"}, 0, 0),
        ({"retry-after": "soon"}, None, None),
        ({"retry-after": "nan"}, None, None),
        ({}, None, None),
    ],
)
def test_what_retry_after_says(headers, low, high):
    found = fault_of(_refusal(429, headers), timeout=1).wait
    assert found is None if low is None else low <= found <= high


@pytest.mark.parametrize(("ahead", "low", "high"), [(3600, 3500, 3600), (-3600, 0, 0)])
def test_retry_after_may_be_a_date(ahead, low, high):
    headers = {"retry-after": formatdate(time.time() + ahead, usegmt=True)}  # now, not when tests were collected
    found = fault_of(_refusal(429, headers), timeout=1).wait
    assert found is not None
    assert low <= found <= high


def test_a_wait_longer_than_our_patience_is_not_begun():
    started = time.monotonic()
    fault, requests, _ = asked([Act(status=429, headers={"retry-after": "86400"}), good()])
    assert (fault.kind, len(requests)) == ("rate limit", 1)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached"])
def test_no_quota_left_ends_the_run(code):
    body = {"error": {"message": "You exceeded your quota", "code": code, "type": code}}
    fault, requests, slept = asked([Act(status=429, body=body)])
    assert (type(fault), fault.kind, len(requests), slept) == (ModelDown, "no quota", 1, [])


@pytest.mark.parametrize(("status", "kind"), [(401, "key"), (402, "no quota"), (403, "forbidden"), (404, "not found")])
def test_lasting_faults_end_the_run_and_nothing_more_is_sent(status, kind):
    with endpoint([Act(status=status)]) as server:
        model = model_at(server)
        for _ in range(3):
            with pytest.raises(ModelDown, match="cannot be used") as caught:
                model.ask("What?", Named)
            assert caught.value.kind == kind
            assert len(caught.value.one_line().splitlines()) == 1
    assert len(server.requests) == 1


def test_a_slow_endpoint_times_out():
    fault, requests, _ = asked([Act(wait=5.0, content="late")], timeout=0.3, retries=1)
    assert (fault.kind, len(requests)) == ("timeout", 2)
    assert "no answer within 0.3 s" in fault.reason


@pytest.mark.parametrize("act", [Act(cut=True), Act(json.dumps(GOOD), kept=0.5), Act(json.dumps(GOOD), kept=0.0)])
def test_cut_connections_are_retried_and_counted_as_estimates(act):
    reply, requests, _ = asked([act, good()])
    assert (reply.answer.confidence, len(requests)) == (8, 2)
    assert reply.usage.estimated == 1
    assert reply.usage.read > 10
    fault, requests, _ = asked([act], retries=1)
    assert (fault.kind, len(requests)) == ("connection", 2)


@pytest.mark.parametrize(
    "body", [b"<html>nginx</html>", b"", b"[]", b'{"choices": []}', b'{"choices": null}', b"null", b'"x"', b"\xff\xfe"]
)
def test_bodies_that_are_no_completions_are_retried(body):
    reply, requests, _ = asked([Act(body=body), good()])
    assert (reply.answer.confidence, len(requests)) == (8, 2)
    fault, _, _ = asked([Act(body=body)], retries=0)
    assert fault.kind == "bad body"


def test_a_body_cut_short_that_looks_whole():
    reply, requests, _ = asked([Act(json.dumps(GOOD), kept=0.6, honest=True), good()])
    assert (reply.answer.confidence, len(requests)) == (8, 2)


def test_an_endpoint_that_is_down():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with endpoint([good()]) as server:
        server.url = url
        with pytest.raises(ModelFault, match=r"cannot be reached.*\(3 requests\)") as caught:
            model_at(server, retries=2).ask("What?", Named)
    assert caught.value.kind == "connection"


def test_a_refusal_is_final():
    fault, requests, _ = asked([Act(content=None, refusal="I cannot help with that.")])
    assert (fault.kind, fault.raw, len(requests)) == ("refusal", "I cannot help with that.", 1)
    fault, requests, _ = asked([Act("I'm sorry, but I can't assist with that.")])
    assert (fault.kind, len(requests)) == ("refusal", 1)


def test_a_content_filter_is_final():
    fault, requests, _ = asked([Act('{"opera', finish="content_filter")])
    assert (fault.kind, fault.raw, len(requests)) == ("content filter", '{"opera', 1)
    body = {"error": {"message": "The response was filtered", "code": "content_filter", "param": "prompt"}}
    fault, requests, _ = asked([Act(status=400, body=body)])
    assert (fault.kind, len(requests)) == ("content filter", 1)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "request (5031 tokens) exceeds", "type": "exceed_context_size_error", "code": 400},
        {"message": "Input tokens exceed the configured limit of 272000 tokens.", "type": "invalid_request_error"},
        {"message": "litellm.ContextWindowExceededError: 5031 tokens", "type": None, "code": "400"},
    ],
)
def test_a_question_too_long_is_final_and_blames_no_form(error):
    fault, requests, _ = asked([Act(status=400, body={"error": error})])
    assert (fault.kind, len(requests)) == ("too long", 1)


@pytest.mark.parametrize(
    ("error", "kind", "passes", "ends_run"),
    [
        (ModelAuthenticationError, "key", False, True),
        (ModelNotFoundError, "not found", False, True),
        (ModelRateLimitError, "rate limit", True, False),
        (ModelAPIError, "server", True, False),
        (ModelTimeoutError, "timeout", True, False),
        (ModelConnectionError, "connection", True, False),
        (ContextOverflowError, "too long", False, False),
    ],
)
def test_errors_without_a_status_are_judged_by_the_class_that_langchain_gave_them(error, kind, passes, ends_run):
    """Some providers' clients raise errors that hold no HTTP status where we look for it."""
    fault = fault_of(type("ProvidersOwn", (error,), {})("said so"), timeout=1)
    assert (fault.kind, fault.passes, fault.ends_run) == (kind, passes, ends_run)


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (Act(""), "empty"),
        (Act("   \n"), "empty"),
        (Act('{"operation": "count', finish="length"), "cut off"),
        (Act("It maps countries."), "not json"),
        (Act("[1, 2]"), "not json"),
        (Act("{" * 5000), "not json"),
        (Act('{"operation": "x"}'), "wrong types"),
        (Act(json.dumps(GOOD | {"confidence": "high"})), "wrong types"),
        (Act(json.dumps(GOOD | {"confidence": 11})), "wrong types"),
        (Act(json.dumps(GOOD | {"operation": ["a"]})), "wrong types"),
        (Act(json.dumps(GOOD | {"operation": "x" * 99})), "wrong types"),
    ],
)
def test_unusable_answers_get_one_repair_then_fail_with_the_raw_reply(act, kind):
    fault, requests, slept = asked([act])
    assert (type(fault), fault.kind, fault.raw) == (ModelFault, kind, act.content)
    assert (len(requests), slept) == (2, [])
    reply, requests, _ = asked([act, good()])
    assert reply.answer.confidence == 8
    assert "That cannot be used" in requests[1]["messages"][-1]["content"]
    assert reply.messages[-2].role == "user"
    assert len(asked([act], repairs=0)[1]) == 1


def test_the_repair_shows_what_is_wrong():
    _, requests, _ = asked([Act(json.dumps(GOOD | {"confidence": 11})), good()])
    assert "confidence: Input should be less than or equal to 10" in requests[1]["messages"][-1]["content"]


def test_a_cut_off_reply_that_holds_the_answer_is_taken():
    reply, requests, _ = asked([Act(json.dumps(GOOD) + " and then", finish="length")])
    assert (reply.answer.confidence, len(requests)) == (8, 1)


@pytest.mark.parametrize(
    ("message", "param", "gone"),
    [
        ("Unsupported value: 'temperature' does not support 0", "temperature", "temperature"),
        ("Unrecognized request argument: max_tokens", None, "max_tokens"),
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'", "max_tokens", "max_tokens"),
    ],
)
def test_a_parameter_that_is_refused_is_left_out(message, param, gone):
    body = {"error": {"message": message, "param": param, "code": "unsupported"}}
    with endpoint([Act(status=400, body=body), good()]) as server:
        model = model_at(server)
        assert model.ask("What?", Named).requests == 2
        assert model.ask("And?", Named).requests == 1
    assert gone in server.requests[0]
    assert all(gone not in request for request in server.requests[1:])
    if gone == "max_tokens":
        assert server.requests[1]["max_completion_tokens"] == 1200


def test_retries_are_logged_with_the_name_of_the_question(caplog):
    caplog.set_level(logging.INFO, "headscribe.llm")
    asked([Act(status=500), good()])
    assert [r.getMessage()[:10] for r in caplog.records] == ["head 3.4: "]


def test_the_key_is_in_no_error_log_or_raw_reply(caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    body = {"error": {"message": f"Incorrect API key provided: {KEY}", "type": "x"}}
    found = [asked([Act(status=status, body=body)], retries=1)[0] for status in (400, 401, 429, 500)]
    text = " ".join(f"{error} {error.reason if hasattr(error, 'reason') else ''} {error.args}" for error in found)
    assert KEY not in text + caplog.text
    assert text.count("[key]") >= 4


def _refusal(status, headers):
    """The client's error for a response with these headers."""

    class Response:
        status_code = status

    Response.headers = headers
    error = RuntimeError("refused")
    error.response = Response()
    return error
