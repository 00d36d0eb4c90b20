"""Replies kept on disk: a second run asks nothing, and whatever happens to the file is no crash."""

import json
import logging
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from agent.errors import ModelFault
from agent.llm.chat import ChatRequest, Completion, ToolCall, ToolSpec, Turn
from agent.llm.reply_cache import ReplyCache, key_of
from tests.support.agent.fault_server import Act, endpoint
from tests.support.agent.llm_parts import GOOD, KEY, Named, good, model_at, rows_tool

IDENTITY = {"provider": "openai", "model": "m", "base_url": "http://x/v1", "temperature": 0}
REQUEST = ChatRequest((Turn("user", "What?"),), "json_schema", 100, schema={"type": "object"})
REPLY = Completion("text", (ToolCall("rows", {"a": [1]}, "c0"),), "stop")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_a_second_run_asks_nothing():
    acts = [Act(calls=[("rows", {"tokens": ["a"]})]), Act(calls=[("answer", GOOD)])]
    seen: list[list[str]] = []
    with endpoint(acts) as server:
        first = model_at(server, use_cache=True, mode="tools").ask("What?", Named, tools=[rows_tool(seen)])
        again = model_at(server, use_cache=True, mode="tools").ask("What?", Named, tools=[rows_tool(seen)])
        assert len(server.requests) == 2
        model_at(server, use_cache=True, mode="tools").ask("What else?", Named, tools=[rows_tool(seen)])
        assert len(server.requests) == 3
    assert (first.requests, again.requests) == (2, 0)
    assert (again.answer, again.raw, again.messages) == (first.answer, first.raw, first.messages)
    assert (again.usage.tokens, seen[:2]) == (0, [["a"], ["a"]])  # tools run again: only the model's part is kept


def test_what_the_endpoint_takes_is_remembered_too():
    with endpoint([Act('{"code": "k7-plum"}'), good()]) as server:
        for expected in (2, 0, 0):
            assert model_at(server, use_cache=True, mode="auto").ask("What?", Named).requests == expected
        assert len(server.requests) == 2


def test_without_a_cache_everything_is_asked_again(tmp_path):
    with endpoint([good()]) as server:
        for _ in range(2):
            model_at(server, cache_folder=tmp_path).ask("What?", Named)
        assert len(server.requests) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "act",
    [
        Act(content=None, refusal="no"),
        Act("prose"),
        Act(status=500),
        Act("x", finish="content_filter"),
        Act('{"o', finish="length"),
    ],
)
def test_refusals_and_failures_are_never_kept(act):
    with endpoint([act]) as server:
        for _ in range(2):
            before = len(server.requests)
            with pytest.raises(ModelFault):
                model_at(server, use_cache=True, retries=0).ask("What?", Named)
            assert len(server.requests) > before
    with endpoint([act, act, good()]) as server:
        with pytest.raises(ModelFault):
            model_at(server, use_cache=True, retries=0, repairs=0).ask("And?", Named)
        with pytest.raises(ModelFault):
            model_at(server, use_cache=True, retries=0, repairs=0).ask("And?", Named)
        assert model_at(server, use_cache=True).ask("And?", Named).requests == 1


def test_a_repaired_conversation_is_kept_whole():
    with endpoint([Act("prose"), good()]) as server:
        assert model_at(server, use_cache=True).ask("What?", Named).requests == 2
        assert model_at(server, use_cache=True).ask("What?", Named).requests == 0


def test_the_key_holds_all_that_can_change_the_reply():
    tool = ToolSpec("rows", "Rows.", {"type": "object"})
    requests = [
        REQUEST,
        replace(REQUEST, turns=(Turn("user", "What else?"),)),
        replace(REQUEST, turns=(Turn("system", "What?"),)),
        replace(REQUEST, turns=(*REQUEST.turns, Turn("assistant", "", REPLY.calls))),
        replace(REQUEST, form="text"),
        replace(REQUEST, max_tokens=101),
        replace(REQUEST, schema={"type": "array"}),
        replace(REQUEST, tools=(tool,)),
        replace(REQUEST, tools=(replace(tool, description="Other."),)),
    ]
    keys = [key_of(IDENTITY, 1, request) for request in requests]
    keys += [
        key_of(IDENTITY | change, 1, REQUEST) for change in ({"model": "n"}, {"base_url": "y"}, {"temperature": 1})
    ]
    keys += [key_of(IDENTITY, 2, REQUEST), key_of(IDENTITY, 1)]
    assert len(set(keys)) == len(keys)
    assert key_of(dict(reversed(IDENTITY.items())), 1, REQUEST) == keys[0]


def test_the_api_key_timeouts_and_limits_are_no_part_of_the_key(monkeypatch):
    with endpoint([good()]) as server:
        model_at(server, use_cache=True).ask("What?", Named)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-another-key")
        model_at(server, use_cache=True, timeout=9.0, retries=1, in_flight=3, token_budget=10**6).ask("What?", Named)
        assert len(server.requests) == 1


def test_it_gives_back_what_it_got(tmp_path):
    cache = ReplyCache(tmp_path)
    assert cache.get("k") is None
    cache.put([("k", REPLY), ("l", Completion("\ud800\x00é"))])
    assert cache.get("k") == REPLY
    assert ReplyCache(tmp_path).get("l").text == "\ud800\x00é"


@pytest.mark.parametrize("spoil", [b"", b"no database at all, only text " * 99, None])
def test_a_broken_file_is_built_anew(tmp_path, caplog, spoil):
    cache = ReplyCache(tmp_path)
    cache.put([(f"k{i}", Completion("x" * 900)) for i in range(50)])
    whole = cache.path.read_bytes()
    cache.path.write_bytes(whole[: len(whole) // 2 + 100] if spoil is None else spoil)
    with caplog.at_level(logging.WARNING, "headscribe.llm"):
        for i in range(50):
            ReplyCache(tmp_path).get(f"k{i}")
        ReplyCache(tmp_path).put([("new", REPLY)])
    assert ReplyCache(tmp_path).get("new") == REPLY
    assert len([r for r in caplog.records if "built anew" in r.getMessage()]) == (spoil != b"")


def test_a_broken_row_is_a_miss(tmp_path):
    cache = ReplyCache(tmp_path)
    cache.put([("k", REPLY)])
    with sqlite3.connect(cache.path) as link:
        for body in ("{", "[]", "null", '{"text": 3}', '{"text": "a", "finish": "stop", "calls": [1]}'):
            link.execute("UPDATE reply SET body = ?", (body,))
            link.commit()
            assert cache.get("k") is None
    cache.put_forms("f", {"tools": True})
    assert cache.forms("f") == {"tools": True}


def test_what_an_endpoint_takes_is_forgotten_after_a_week(tmp_path):
    cache = ReplyCache(tmp_path)
    cache.put_forms("f", {"tools": True})
    with sqlite3.connect(cache.path) as link:
        link.execute("UPDATE forms SET at = at - 8 * 86400")
    assert cache.forms("f") == {}


def test_a_place_that_cannot_be_written_is_said_once(tmp_path, caplog):
    place = tmp_path / "file"
    place.write_text("in the way")
    cache = ReplyCache(place)
    with caplog.at_level(logging.WARNING, "headscribe.llm"):
        for _ in range(3):
            cache.put([("k", REPLY)])
            assert cache.get("k") is None
    assert len(caplog.records) == 1
    assert "not kept" in caplog.text


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="drops root's rights")
def test_a_read_only_cache_still_answers(tmp_path):
    cache = ReplyCache(tmp_path)
    cache.put([("k", REPLY)])
    cache.path.chmod(0o444)
    tmp_path.chmod(0o555)
    for parent in (tmp_path.parent, tmp_path.parent.parent, tmp_path.parent.parent.parent):
        parent.chmod(0o755)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from agent.llm.reply_cache import ReplyCache\n"
        "from agent.llm.chat import Completion\n"
        "os.setuid(65534)\n"
        "cache = ReplyCache(Path(sys.argv[1]))\n"
        "cache.put([('new', Completion('x'))])\n"
        "print(cache.get('k').text, cache.get('new'))\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout == "text None\n"
    assert "not kept" in run.stderr
    assert "Traceback" not in run.stderr


def test_threads_and_processes_at_once(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from agent.llm.reply_cache import ReplyCache\n"
        "from agent.llm.chat import Completion\n"
        "cache = ReplyCache(Path(sys.argv[1]))\n"
        "for i in range(25): cache.put([(f'{sys.argv[2]}-{i}', Completion(str(i)))])\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(n)]) for n in range(2)]
    cache = ReplyCache(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda i: cache.put([(f"t-{i}", Completion(str(i)))]), range(25)))
    assert [other.wait(60) for other in others] == [0, 0]
    for name in ("0", "1", "t"):
        assert [cache.get(f"{name}-{i}").text for i in range(25)] == [str(i) for i in range(25)]


def test_no_key_is_written_anywhere(tmp_path, own_folders):
    with endpoint([Act("prose"), Act(json.dumps(GOOD | {"operation": f"key {KEY}"}))]) as server:
        reply = model_at(server, use_cache=True, cache_folder=tmp_path).ask("What?", Named)
    assert reply.answer.operation == "key [key]"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert all(KEY.encode() not in path.read_bytes() for path in written)
    assert KEY not in repr(reply)
