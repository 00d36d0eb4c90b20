"""Both halves of a head in one account."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.results.account import account, written
from maps_engine.qk.kinds import sentence
from maps_engine.results import HeadAttention
from tests.support.believable import a_mapping, a_report

LOOKS = HeadAttention(3, 1, previous=0.8, itself=0.1, first=0.1, duplicate=0.0, induction=0.0, profile=(0.1, 0.8, 0.0))


def test_a_named_head_says_what_it_writes_where_it_attends() -> None:
    writes = "When it attends to a token, it maps a country to its capital."
    assert account(LOOKS, "ok", "Maps a country to its capital.") == f"Attends {sentence(LOOKS)}. {writes}"
    assert account(None, "ok", "Maps a country to its capital.") == writes


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("unclear", "What it writes is unclear."),
        ("failed", "What it writes could not be described."),
        ("none", ""),
    ],
)
def test_a_head_without_a_description_says_what_it_attends_to(status: str, wanted: str) -> None:
    assert account(LOOKS, status, "Unclear.") == f"Attends {sentence(LOOKS)}. {wanted}".strip()
    assert account(None, status, "Unclear.") == wanted


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("Copies the input token.", ", it copies the input token."),
        ("Often maps a to b.", ", it often maps a to b."),
        ("French words to English words.", ": French words to English words."),
        ("X", ": X"),
    ],
)
def test_a_pattern_that_begins_with_its_verb_is_part_of_the_sentence(pattern: str, wanted: str) -> None:
    assert written(pattern) == f"When it attends to a token{wanted}"


def test_reports_and_stored_heads_have_the_same_account() -> None:
    mapping = replace(a_mapping(3, 1, operation="capital of a country"), attention=LOOKS)
    report = a_report(mapping, "capital of a country")
    assert report.account == account(LOOKS, report.description.status, report.description.observed_pattern)
    assert report.to_json()["account"] == report.account
    failed = replace(report, description=replace(report.description, status="failed"))
    assert failed.account.endswith("What it writes could not be described.")
