"""Which tokens stand for a head where not all of the vocabulary is read: ordinary words, by a rule without a corpus.

A tokenizer numbers what it learned first lower, and byte-pair encoding learns the frequent first, so among whole words
the order of ids is a fair order of how often they were trained. Rare pieces, code and marks are left out: under the
residual stream they are the most salient tokens of most heads, and say least (docs/method.md, "What a head really
reads"). So are beginnings of words: " Tanz" was learned on the way to " Tanzania", which occurs as often and so was
learned soon after.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Set
from itertools import islice

from maps_engine.model import Vocabulary

SHORTEST = 2  # letters of a word
LONGEST_NUMBER = 4
LONGEST_CAPITALS = 5
SOON = 1.5  # times a token's number, up to which a longer one is learned soon after it
ENDING = 1  # letters that an ending such as a plural's adds to a word without making it a piece


def ordinary_words(vocabulary: Vocabulary, at_most: int | None = None) -> tuple[int, ...]:
    """Ids, rising, of the first `at_most` tokens that are whole words or numbers; one of each word, however spelled.

    Whole words begin with a space where the vocabulary has any token that does; a word's later spellings (" The" after
    " the") are left out, since a head's list is to show distinct words.
    """
    texts = [vocabulary.text(i) if vocabulary.kind(i) == "normal" else "" for i in range(len(vocabulary))]
    spaced = any(_is_word(text[1:]) for text in texts if text.startswith(" "))
    bodies = {token: text[1:] if spaced and text.startswith(" ") else text for token, text in enumerate(texts)}
    words = {body: i for i, body in bodies.items() if _is_word(body) and texts[i].startswith(" ") == spaced}
    pieces = _pieces(words)
    found: dict[str, int] = {}
    for token, body in bodies.items():
        if _is_number(body) or (words.get(body) == token and body not in pieces):
            found.setdefault(body.casefold(), token)
            if len(found) == at_most:
                break
    return tuple(sorted(found.values()))


def ordinary_marks(vocabulary: Vocabulary, at_most: int) -> tuple[int, ...]:
    """Ids, rising, of the first `at_most` tokens of printable marks or line breaks alone, no letters or digits."""
    marks = (i for i in range(len(vocabulary)) if vocabulary.kind(i) == "normal" and _is_mark(vocabulary.text(i)))
    return tuple(islice(marks, at_most))


def in_finding_half(word: str) -> bool:
    """Whether a word is of the half that is looked at; words of the other half test what was seen. By its spelling."""
    return zlib.crc32(word.strip().casefold().encode()) % 2 == 0


def _pieces(words: Mapping[str, int]) -> Set[str]:
    """Those that were learned on the way to a longer one: it has more than an ending more, and its id is near."""
    ordered = sorted(words)
    found = set()
    for place, word in enumerate(ordered):
        following = place + 1  # what begins with a word stands behind it
        while following < len(ordered) and ordered[following].startswith(word):
            longer = ordered[following]
            if len(longer) > len(word) + ENDING and words[longer] <= SOON * words[word]:
                found.add(word)
                break
            following += 1
    return found


def _is_word(body: str) -> bool:
    """Letters alone; capitals only at the beginning, or all of a short name such as USA."""
    if not body.isalpha() or (len(body) < SHORTEST and body.isascii()):
        return False
    return body[1:] == body[1:].lower() or (body.isupper() and len(body) <= LONGEST_CAPITALS)


def _is_mark(text: str) -> bool:
    """A blank alone is none: tokenizers put it before the next word."""
    return bool(text.strip(" ")) and all((c.isprintable() and not c.isalnum()) or c == "\n" for c in text)


def _is_number(body: str) -> bool:
    return body.isascii() and body.isdigit() and len(body) <= LONGEST_NUMBER
