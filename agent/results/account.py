"""Both halves of a head in one account: what it attends to, and what it writes where it does."""

from __future__ import annotations

from maps_engine.qk.kinds import sentence
from maps_engine.results import HeadAttention

WHEN = "When it attends to a token:"


def account(attention: HeadAttention | None, pattern: str) -> str:
    """One or two sentences. `attention` None: it was not read; `pattern` "": what the head writes is unclear."""
    attends = "" if attention is None else f"Attends {sentence(attention)}."
    writes = written(pattern) if pattern else "What it writes there is unclear."
    return f"{attends} {writes}" if attends else writes


def written(pattern: str) -> str:
    """What a head writes, as far as it attends: "When it attends to a token: maps a country to its capital." """
    first, rest = pattern[:1], pattern[1:]
    ordinary = rest[:1].islower() or rest[:1].isspace()  # not an abbreviation, "I" or a quoted token
    return f"{WHEN} {first.lower() if ordinary and first != 'I' else first}{rest}"
