"""Both halves of a head in one account."""

from __future__ import annotations

import pytest

from agent.results.account import account, written
from maps_engine.qk.kinds import sentence
from maps_engine.results import HeadAttention

LOOKS = HeadAttention(3, 1, previous=0.8, itself=0.1, first=0.1, duplicate=0.0, induction=0.0, profile=(0.1, 0.8, 0.0))


def test_a_named_head_says_what_it_writes_where_it_attends() -> None:
    said = account(LOOKS, "Maps a country to its capital.")
    assert said == f"Attends {sentence(LOOKS)}. When it attends to a token: maps a country to its capital."
    assert (
        account(None, "Maps a country to its capital.") == "When it attends to a token: maps a country to its capital."
    )


def test_an_unclear_head_says_what_it_attends_to() -> None:
    assert account(LOOKS, "") == f"Attends {sentence(LOOKS)}. What it writes there is unclear."
    assert account(None, "") == "What it writes there is unclear."


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [("A word", "a word"), ("I to me", "I to me"), ("US states", "US states"), ('"a" to b', '"a" to b'), ("", "")],
)
def test_only_an_ordinary_first_word_loses_its_capital(pattern: str, wanted: str) -> None:
    assert written(pattern) == f"When it attends to a token: {wanted}"
