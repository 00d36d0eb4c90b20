"""What a head attends to on its terminal page, and in exports."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from agent.output.run_files import COLUMNS, flat_rows
from agent.output.terminal.head_page import show_page
from agent.results.attention_values import attention_made, attention_of, attention_values
from agent.runs.stored import head_of_json, stored_head
from tests.support.believable import a_mapping, a_report
from tests.support.record_fixtures import *  # noqa: F403


def page(head: int, *, attention: bool = True) -> str:
    mapping = a_mapping(3, head, operation="antonym", hostile=True)
    report = a_report(mapping if attention else replace(mapping, attention=None), "antonym")
    out = io.StringIO()
    show_page(Console(file=out, width=160, highlight=False), report)
    return out.getvalue()


def test_the_page_says_it_in_one_line_and_shows_the_evidence() -> None:
    shown = page(0)
    assert "attends  to the token before (61%)  (previous token)" in shown
    assert "previous 0.61  self 0.03  first 0.05" in shown
    assert " █" in shown
    assert "Keys that all queries prefer" in shown
    classes = "attends  from months to months (5.0 times as much as to other words); else to the first token (80%)"
    assert classes in " ".join(page(2).split()).replace("attends ", "attends  ")
    assert "Its keys are fed by: 2.0 (previous token) 4.2" in page(1)
    assert "; its keys are fed by 2.0 (previous token)" in " ".join(page(1).split())


def test_a_head_without_it_says_so() -> None:
    assert "attends  not read: not asked for, not understood of this model, or too large" in page(0, attention=False)


def test_json_values_come_back() -> None:
    known = a_mapping(3, 2, operation="antonym").attention
    assert known is not None
    values = attention_values(known)
    assert values is not None
    assert attention_made(3, 2, values, values) == known
    alone = attention_made(3, 2, values)
    assert alone == replace(known, attends=(), popular=(), avoided=(), fed_by=())
    assert attention_of(3, 2, None) is None
    assert attention_values(None) is None


def test_exports_have_the_numbers_and_the_kinds(believable) -> None:
    engine, facts = believable
    head = stored_head(engine, facts.run_id, 7, 1)
    (row,) = flat_rows([head])
    assert tuple(row) == COLUMNS
    assert (row["attention.induction"], row["attention.self"]) == (0.61, 0.03)
    assert row["attention.kinds"] == "induction"
    assert str(row["attention.said"]).startswith("to what followed the same word")
    (without,) = flat_rows([replace(head, attention=None)])
    assert {without[name] for name in COLUMNS if name.startswith("attention.")} == {None}
    assert head_of_json(head.to_json()).attention == head.attention
