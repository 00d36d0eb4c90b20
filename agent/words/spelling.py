"""Spelling of words: their core, script, stem, and the regular English ways to add an ending."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

_VOWELS = "aeiou"
_kept = lru_cache(2**17)  # the same few thousand words are asked about millions of times
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*\Z")


@_kept
def core(text: str) -> str:
    """The text without its outer spaces, in casefold."""
    return text.strip().casefold()


@_kept
def is_word(text: str) -> bool:
    """Letters only (apostrophe and hyphen inside allowed), outer spaces aside."""
    return _WORD.match(text.strip()) is not None


@_kept
def stem(word: str) -> str:
    """A crude stem: casefolded, with one inflection or derivation ending cut off (at least 3 letters stay)."""
    text = core(word)
    for ending in _STEM_ENDINGS:
        if text.endswith(ending) and len(text) - len(ending) >= 3:
            text = text[: -len(ending)]
            break
    if len(text) > 3 and text[-1] == text[-2] and text[-1] not in "aeiouls":
        text = text[:-1]
    return text[:-1] + "i" if len(text) > 3 and text.endswith("y") else text.removesuffix("e")


_STEM_ENDINGS: Final = (
    "ingly", "ation", "ities", "iness", "ments", "fully", "ings", "ness", "ment", "able", "less", "edly",
    "ies", "ied", "ier", "est", "ers", "ing", "ity", "ism", "ist", "ous", "ive", "ful", "ion", "ans", "ian",
    "ed", "er", "es", "ly", "al", "an", "ic", "s", "y",
)  # fmt: skip


@_kept
def plurals(word: str) -> tuple[str, ...]:
    """Regular plural of an English noun."""
    if re.search(r"(s|x|z|ch|sh)$", word):
        return (word + "es",)
    if re.search(r"[^aeiou]y$", word):
        return (word[:-1] + "ies",)
    return (word + "s",)


@_kept
def with_suffix(word: str, suffix: str) -> tuple[str, ...]:
    """Regular spellings of word + suffix: plain, e dropped, consonant doubled, y to i."""
    forms = [word + suffix]
    if suffix[0] in _VOWELS or suffix == "y":
        if word.endswith("e"):
            forms = [word[:-1] + suffix]
        elif re.search(r"[^aeiou][aeiou][bdgklmnprt]$", word):
            forms.append(word + word[-1] + suffix)
    if len(word) > 2 and word.endswith("y") and word[-2] not in _VOWELS and suffix[0] != "i":
        forms = [word[:-1] + "i" + suffix]
    return tuple(forms)


def script(text: str) -> str:
    """LATIN, CYRILLIC, CJK … of the first letter; empty where there is none."""
    for char in text:
        if char.isalpha():
            return unicodedata.name(char, "").split(" ")[0]
    return ""
