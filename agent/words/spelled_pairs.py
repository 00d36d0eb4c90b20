"""Pairs of words as tokens: what one vocabulary can spell of the pairs that someone proposes.

A bare word stands for its spellings: with and without a leading space, as it stands, in lower case and capitalised. The
same targets then count on this head, on all other heads and on null heads, so that nothing is gained by spelling. Where
an operation is about spacing or case the pairs are exact: each text is one token as it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from agent.words.spelling import core
from maps_engine.model import Vocabulary
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.thresholds import DEFAULT_K

KEPT_OUT: Final = "with sources that were shown or are held out"
SPLIT: Final = "of several tokens"
REPEATED: Final = "said twice"


@dataclass(frozen=True, slots=True)
class SpelledPairs:
    """Pairs of token ids, and how many of those proposed fell out for which reason, most frequent first."""

    pairs: PairSet
    dropped: tuple[tuple[str, int], ...] = ()

    @property
    def told_dropped(self) -> str:
        """`; 3 of several tokens, 2 said twice fell out`; empty where none did."""
        parts = ", ".join(f"{n} {reason}" for reason, n in self.dropped)
        return f"; {parts} fell out" if parts else ""


def spelled_pairs(
    proposed: Iterable[tuple[str, str]],
    vocabulary: Vocabulary,
    excluded: Collection[str] = frozenset(),
    *,
    exact: bool = False,
) -> SpelledPairs:
    """The pairs that one token each can spell; sources among `excluded` (casefolded texts) fall out.

    Targets of one source are joined: any of them is a hit.
    """
    made: dict[int, dict[int, None]] = {}
    dropped: Counter[str] = Counter()
    for source, target in proposed:
        if core(source) in excluded:
            dropped[KEPT_OUT] += 1
            continue
        s = single_token(vocabulary, source) if exact else _source(vocabulary, source)
        found = [single_token(vocabulary, target)] if exact else word_ids(vocabulary, target.strip(), besides=s)
        targets = [i for i in found if i is not None]
        if s is None or not targets:
            dropped[SPLIT] += 1
        elif set(targets) <= set(made.get(s, ())):
            dropped[REPEATED] += 1
        else:
            made.setdefault(s, {}).update(dict.fromkeys(targets))
    pairs = PairSet(tuple(made), tuple(map(tuple, made.values())), DEFAULT_K)
    return SpelledPairs(pairs, tuple(dropped.most_common()))


def single_token(vocabulary: Vocabulary, text: str) -> int | None:
    """The one normal token that spells `text`, or None."""
    word = text.removeprefix(" ")
    return vocabulary.single_id(word, leading_space=text.startswith(" ")) if word else None


def word_ids(vocabulary: Vocabulary, word: str, *, besides: int | None = None) -> list[int]:
    """Tokens that spell the word, with and without a leading space, as it stands, in lower case and capitalised.

    `besides`: a token that is left out unless it is the only one, such as the source of a pair.
    """
    forms = dict.fromkeys((word, word.lower(), word.capitalize()))
    texts = (f"{space}{form}" for space in (" ", "") for form in forms)
    found = list(dict.fromkeys(i for t in texts if (i := single_token(vocabulary, t)) is not None))
    return [i for i in found if i != besides] or found


def _source(vocabulary: Vocabulary, text: str) -> int | None:
    """A word as it stands in running text, else without its space."""
    word = text.strip()
    spaced = single_token(vocabulary, f" {word}")
    return spaced if spaced is not None else single_token(vocabulary, word)
