"""Both halves of a head in one account: what it attends to, and what it writes where it does."""

from __future__ import annotations

from typing import Final

from maps_engine.qk.kinds import sentence
from maps_engine.results import HeadAttention

VERBS: Final = frozenset({"Maps", "Often", "Sometimes", "Copies", "Writes", "Promotes"})  # a pattern may begin with
WITHOUT: Final = {"unclear": "What it writes is unclear.", "failed": "What it writes could not be described."}


def account(attention: HeadAttention | None, status: str, pattern: str) -> str:
    """One or two sentences; "" where nothing is known.

    attention: None where it was not read. pattern: what the head maps to what, of a description that is "ok".
    """
    attends = "" if attention is None else f"Attends {sentence(attention)}."
    writes = written(pattern) if status == "ok" and pattern else WITHOUT.get(status, "")
    return f"{attends} {writes}".strip()


def written(pattern: str) -> str:
    """What a head writes, as far as it attends: "When it attends to a token, it maps a country to its capital." """
    first, rest = pattern.split(" ", 1) if " " in pattern else (pattern, "")
    if first in VERBS:
        return f"When it attends to a token, it {first.lower()} {rest}"
    return f"When it attends to a token: {pattern}"
