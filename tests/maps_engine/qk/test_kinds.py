"""Kinds of attention by their rules, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from maps_engine.qk.kinds import KINDS, LOCAL, NEAR, READINGS, SHARE, SINK, kinds, reading, sentence
from maps_engine.results import ClassFit, Feed, HeadAttention

FLAT = (1 / 63,) * 63
FIT = ClassFit("months", "weekdays", 1.0, 4.0, 12.0)
LIKED = ClassFit(None, "marks", 1.0, 4.0, 12.0)


def head(**changes: Any) -> HeadAttention:
    values = dict.fromkeys(READINGS.values(), 0.0)
    return HeadAttention(layer=1, head=2, **(values | {"profile": FLAT} | changes))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"previous": SHARE}, ("previous token",)),
        ({"previous": SHARE - 0.001}, ("broad",)),
        ({"itself": 0.5}, ("self",)),
        ({"duplicate": 0.5, "induction": 0.3}, ("duplicate token", "induction")),
        ({"induction": 0.9, "first": 0.9}, ("induction",)),
        ({"previous": 0.4, "fits": (FIT,)}, ("previous token", "class to class")),
        ({"fits": (FIT, LIKED), "first": 0.9}, ("class to class",)),
        ({"fits": (LIKED,), "first": 0.9}, ("sink",)),
        ({"first": SINK}, ("sink",)),
        ({"profile": (0.0, *[LOCAL / NEAR] * NEAR, *[0.01] * 40)}, ("local",)),
        ({"profile": ()}, ("broad",)),
        ({}, ("broad",)),
    ],
)
def test_kinds(changes: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert kinds(head(**changes)) == wanted
    assert set(wanted) <= set(KINDS)
    assert sentence(head(**changes))


def test_a_sentence_tells_all_that_was_found() -> None:
    told = sentence(head(previous=0.4, first=0.6, fits=(FIT, LIKED)))
    assert told == (
        "to the token before (40%); from months to weekdays (2.7 times as much as to other words); "
        "to marks from anywhere (2.7 times as much as to other words); else to the first token (60%)"
    )
    assert sentence(head()) == "broadly, 31 tokens back on average"
    assert sentence(head(first=0.7)) == "to the first token (70%)"


def test_an_induction_head_is_told_with_the_head_that_feeds_its_keys() -> None:
    feeds = tuple(Feed(part, 0, source, 4.0, ("previous token",)) for part, source in (("Q", 1), ("K", 2), ("K", 3)))
    assert sentence(head(induction=0.9, fed_by=feeds)).endswith("; its keys are fed by 0.2 (previous token)")
    assert "fed by" not in sentence(head(previous=0.9, fed_by=feeds))
    sink = Feed("K", 1, 3, 2.4, ("sink",))  # moves nothing from the word before
    assert sentence(head(induction=0.9, fed_by=(sink, *feeds))) == sentence(head(induction=0.9, fed_by=feeds))
    assert "fed by" not in sentence(head(induction=0.9, fed_by=(sink,)))


def test_readings_have_the_names_of_exports() -> None:
    one = head(itself=0.25, duplicate=0.5)
    assert {name: reading(one, name) for name in READINGS} == {
        "previous": 0.0, "self": 0.25, "first": 0.0, "duplicate": 0.5, "induction": 0.0,
    }  # fmt: skip
