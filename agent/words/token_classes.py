"""What a token is, by its characters alone: number, punctuation, blank space, fragment, capitals, other script."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.words.spelling import is_word, script


@dataclass(frozen=True, slots=True)
class TokenClass:
    """A plural noun phrase and its test."""

    label: str
    holds: Callable[[str], bool]


def _fragment(text: str) -> bool:
    return len(text) > 1 and text == text.strip() and is_word(text) and text == text.lower()


def _capitalised(text: str) -> bool:
    word = text.strip()
    return len(word) > 1 and is_word(word) and word[0].isupper() and word[1:].islower()


def _all_capitals(text: str) -> bool:
    word = text.strip()
    return len(word) > 1 and is_word(word) and word.isupper()


def _code(text: str) -> bool:
    word = text.strip()
    return bool(re.search(r"[a-z][A-Z]|\w_\w|[A-Za-z]\(|^[.#@$]\w", word))


def is_mark(text: str) -> bool:
    """Whether a token is punctuation or a sign of code."""
    word = text.strip()
    return bool(word) and not any(c.isalnum() or c == "\ufffd" for c in word)


def _other_script(text: str) -> bool:
    return script(text) not in {"", "LATIN"}


CLASSES: Final = (
    TokenClass("single letters", lambda t: len(t.strip()) == 1 and t.strip().isalpha()),
    TokenClass("numbers", lambda t: bool(t.strip()) and all(c.isdigit() or c in ".,%" for c in t.strip())
               and any(c.isdigit() for c in t)),
    TokenClass("punctuation and code marks", is_mark),
    TokenClass("blank space and line breaks", lambda t: bool(t) and not t.strip()),
    TokenClass("fragments of words", _fragment),
    TokenClass("capitalised words", _capitalised),
    TokenClass("words in capitals", _all_capitals),
    TokenClass("code identifiers", _code),
    TokenClass("tokens in other scripts", _other_script),
    TokenClass("bytes that are no text", lambda t: "\ufffd" in t or bool(re.search(r"<0x[0-9A-F]{2}>", t))),
)  # fmt: skip
