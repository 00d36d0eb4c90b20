"""Which tokens stand for a head where not all of the vocabulary is read: ordinary words, by a rule without a corpus.

A tokenizer numbers what it learned first lower, and byte-pair encoding learns the frequent first, so among whole words
the order of ids is a fair order of how often they were trained. Rare pieces, code and marks are left out: under the
residual stream they are the most salient tokens of most heads, and say least (docs/method.md, "What a head really
reads").
"""

from __future__ import annotations

from maps_engine.model import Vocabulary

SHORTEST = 2  # letters of a word
LONGEST_NUMBER = 4


def ordinary_words(vocabulary: Vocabulary, at_most: int | None = None) -> tuple[int, ...]:
    """Ids, rising, of the first `at_most` tokens that are whole words or numbers; one of each word, however spelled.

    Whole words begin with a space where the vocabulary has any token that does; a word's later spellings (" The" after
    " the") are left out, since a head's list is to show distinct words.
    """
    texts = [vocabulary.text(i) if vocabulary.kind(i) == "normal" else "" for i in range(len(vocabulary))]
    spaced = any(_is_word(text[1:]) for text in texts if text.startswith(" "))
    found: dict[str, int] = {}
    for token, text in enumerate(texts):
        body = text[1:] if spaced and text.startswith(" ") else text
        if (_is_word(body) and text.startswith(" ") == spaced) or _is_number(body):
            found.setdefault(body.casefold(), token)
            if len(found) == at_most:
                break
    return tuple(sorted(found.values()))


def _is_word(body: str) -> bool:
    return (len(body) >= SHORTEST and body.isalpha()) or (len(body) == 1 and not body.isascii() and body.isalpha())


def _is_number(body: str) -> bool:
    return body.isascii() and body.isdigit() and len(body) <= LONGEST_NUMBER
