"""Between what a head attends to and its JSON values, as exports, pages, the database and the cache hold them.

Numbers of all heads are wanted in lists and grids; the words of a head only on its page. So they are two values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from agent.results.token_values import row_values, rows_of, scored_of, scored_values
from maps_engine.qk.kinds import READINGS, kinds, reading, sentence
from maps_engine.results import ClassFit, Feed, HeadAttention

DIGITS = 5


def attention_values(head: HeadAttention | None) -> dict[str, Any] | None:
    """All of it: kinds and sentence, numbers, words."""
    if head is None:
        return None
    numbers = attention_numbers(head)
    return {"kinds": list(kinds(head)), "said": sentence(head)} | numbers | attention_words(head)


def attention_numbers(head: HeadAttention) -> dict[str, Any]:
    """The readings by their names, `reach`, the profile by offset, and classes: what kinds are told by."""
    return {name: round(reading(head, name), DIGITS) for name in READINGS} | {
        "reach": round(head.reach, DIGITS),
        "profile": [round(share, DIGITS) for share in head.profile],
        "fits": [asdict(one) for one in head.fits],
    }


def attention_words(head: HeadAttention) -> dict[str, Any]:
    """Queries with their keys, popular and avoided keys, and heads that feed this one."""
    return {
        "attends": row_values(head.attends),
        "popular": scored_values(head.popular),
        "avoided": scored_values(head.avoided),
        "fed_by": [asdict(one) | {"kinds": list(one.kinds)} for one in head.fed_by],
    }


def attention_of(
    layer: int, head: int, numbers: Mapping[str, Any] | None, words: Mapping[str, Any] | None = None
) -> HeadAttention | None:
    """As `attention_made`; None of heads that were stored without."""
    return None if numbers is None else attention_made(layer, head, numbers, words)


def attention_made(
    layer: int, head: int, numbers: Mapping[str, Any], words: Mapping[str, Any] | None = None
) -> HeadAttention:
    """From its JSON values, in lists without its words. Raises KeyError, TypeError or ValueError for other values."""
    alone = HeadAttention(
        layer=layer,
        head=head,
        previous=float(numbers["previous"]),
        itself=float(numbers["self"]),
        first=float(numbers["first"]),
        duplicate=float(numbers["duplicate"]),
        induction=float(numbers["induction"]),
        profile=tuple(map(float, numbers["profile"])),
        fits=tuple(ClassFit(**one) for one in numbers["fits"]),
    )
    if words is None:
        return alone
    return replace(
        alone,
        attends=rows_of(words["attends"]),
        popular=scored_of(words["popular"]),
        avoided=scored_of(words["avoided"]),
        fed_by=tuple(Feed(**(one | {"kinds": tuple(one["kinds"])})) for one in words["fed_by"]),
    )
