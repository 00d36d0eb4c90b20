"""Every fault we know, put in front of a real llama.cpp server with the real SmolLM2: what comes of it.

    python -m tests.benchmarks.fault_matrix

One row a fault: what the asker gets, how many requests reached the endpoint, tokens counted, seconds. The faults are
made by a proxy of ours on loopback; "then well" means that the request after the fault is passed on to the server.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agent.errors import BudgetSpent, ModelDown, ModelFault
from agent.llm.chat import Form
from agent.llm.endpoints.capabilities import PROBES
from agent.llm.endpoints.providers import open_endpoint
from agent.llm.options import ModelOptions
from tests.support.agent.fault_server import Act, endpoint
from tests.support.agent.llm_parts import GOOD, Named, model_at
from tests.support.llama_server import llama_server

PROMPT = "A head of a model maps France to Paris and Italy to Rome. What does it do?"
WELL = Act(forward=True)
QUOTA = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
TOO_LONG = {"error": {"message": "maximum context length is 8192 tokens", "code": "context_length_exceeded"}}


@dataclass(frozen=True)
class Case:
    """A fault, as acts of the proxy, and options of the asker."""

    name: str
    acts: Sequence[Act]
    options: dict[str, Any] = field(default_factory=dict)


def cases() -> list[Case]:
    """All rows of the matrix."""
    date = formatdate(time.time() + 6, usegmt=True)  # the second row, a few seconds from now
    once = [
        ("429, Retry-After 0.5 s", Act(status=429, headers={"retry-after": "0.5"})),
        ("429, Retry-After a date", Act(status=429, headers={"retry-after": date})),
        ("429 without Retry-After", Act(status=429)),
        ("500", Act(status=500)),
        ("502", Act(status=502)),
        ("503", Act(status=503)),
        ("connection cut before the reply", Act(cut=True)),
        ("connection cut in mid-reply", Act(forward=True, kept=0.5)),
        ("truncated body that looks whole", Act(forward=True, kept=0.5, honest=True)),
        ("body is HTML", Act(body=b"<html>bad gateway</html>")),
        ("choices: null", Act(body={"choices": None})),
        ("empty reply", Act("")),
        ("not JSON", Act("It maps countries.")),
        ("right JSON of wrong types", Act(json.dumps(GOOD | {"confidence": "high"}))),
        ("truncated reply (length)", Act('{"operation": "cou', finish="length")),
    ]
    found = [Case(f"{name}, then well", [act, WELL]) for name, act in once]
    found.append(Case("late by 8 s, timeout 4 s, then well", [Act(forward=True, wait=8.0), WELL], {"timeout": 4.0}))
    stays = [
        ("429, Retry-After a day", Act(status=429, headers={"retry-after": "86400"})),
        ("429 insufficient_quota", Act(status=429, body=QUOTA)),
        ("429 that stays", Act(status=429)),
        ("500 that stays", Act(status=500)),
        ("401", Act(status=401)),
        ("403", Act(status=403)),
        ("404", Act(status=404)),
        ("400, context too long", Act(status=400, body=TOO_LONG)),
        ("refusal", Act(content=None, refusal="I cannot help with that.")),
        ("content filter", Act("{", finish="content_filter")),
        ("empty reply that stays", Act("")),
        ("not JSON that stays", Act("It maps countries.")),
        ("wrong types that stay", Act(json.dumps(GOOD | {"confidence": "high"}))),
        ("truncated that stays", Act('{"operation": "cou', finish="length")),
    ]
    found += [Case(name, [act]) for name, act in stays]
    found.append(Case("400 to every form of request", [Act(status=400)], {"mode": "auto"}))
    found.append(Case("token budget of 60", [WELL], {"token_budget": 60}))
    return found


def outcome(server: str, case: Case) -> tuple[str, ...]:
    """One row."""
    slept: list[float] = []
    options = {"max_tokens": 60, "timeout": 240.0, "use_cache": False} | case.options
    with endpoint(case.acts, upstream=server) as proxy:
        model = model_at(proxy, sleep=slept.append, **options)
        started = time.monotonic()
        try:
            reply = model.ask(PROMPT, Named, about=case.name)
            said = f"answer after {reply.requests}" if reply.requests > 1 else "answer"
        except ModelFault as fault:
            said = f"question failed: {fault.kind}" + (f", raw {fault.raw[:18]!r} kept" if fault.raw else "")
        except (ModelDown, BudgetSpent) as stop:
            said = f"run stops: {getattr(stop, 'kind', 'budget')}"
        seconds = time.monotonic() - started
    spent = model.limits.spent
    tokens = f"{spent.tokens}" + (f" ({spent.estimated} estimated)" if spent.estimated else "")
    return case.name, said, str(len(proxy.requests)), tokens, f"{seconds:.1f}", f"{sum(slept):.1f}"


def show_forms(out: Console, server: str) -> None:
    """What this server takes."""
    table = Table("form of request", "taken", "seconds", title="llama.cpp with SmolLM2-135M-Instruct")
    at = open_endpoint("openai:smollm2", ModelOptions(base_url=f"{server}/v1"))
    names: dict[Form, str] = {"tools": "tool calling", "json_schema": "strict json_schema", "json_object": "JSON mode"}
    for form, name in names.items():
        started = time.monotonic()
        taken = PROBES[form](at.complete)
        table.add_row(name, "yes" if taken else "no", f"{time.monotonic() - started:.1f}")
    out.print(table)


def show_cache(out: Console, server: str) -> None:
    """Requests of a first and a second run of ten questions."""
    with tempfile.TemporaryDirectory() as folder, endpoint([WELL], upstream=server) as proxy:
        for run in ("first", "second"):
            before, started = len(proxy.requests), time.monotonic()
            options: dict[str, Any] = {"mode": "auto", "use_cache": True, "cache_folder": Path(folder)}
            model = model_at(proxy, max_tokens=60, timeout=240.0, **options)
            for i in range(10):
                model.ask(f"{PROMPT} Variant {i}.", Named)
            seconds = time.monotonic() - started
            out.print(f"{run} run of 10 questions: {len(proxy.requests) - before} requests, {seconds:.2f} s")


def main() -> None:
    """Print the three tables."""
    os.environ.setdefault("OPENAI_API_KEY", "sk-not-a-real-key")
    out = Console(width=140)
    table = Table("fault", "outcome", "requests", "tokens counted", "seconds", "would have slept", title="Fault matrix")
    with llama_server() as server:
        show_forms(out, server)
        for case in cases():
            table.add_row(*outcome(server, case))
        out.print(table)
        show_cache(out, server)


if __name__ == "__main__":
    main()
