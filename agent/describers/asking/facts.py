"""What was counted of a head, in lines for a language model: it cannot count a page of rows by eye.

Facts of rows come from the rows that are shown. Facts of known operations and of classes of words come from words that
no test uses (`agent.results.descriptions.HeadDescription.scored`), so that whoever was told them is tested on others.
Words of parts that are told test nothing afterwards (`told_words`). The constant part is a mean over hundreds of
words, of which no single one can be read; whoever was told it is tested as strictly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Final

from agent.describers.asking.prompting import as_data
from agent.describers.findings import shared_words
from agent.results.evidence import ClassScore, Evidence, KnownScore, SharedScore
from agent.words.known_pairs import label_of
from agent.words.spelling import core
from maps_engine.results import ConstantPart, HeadPart, MappingRow

MOST_KNOWN: Final = 3
MOST_PARTS: Final = 4
PART_WORDS: Final = 6
SHARED_IN: Final = 0.3  # of the rows, or the outputs that they share say little


def fact_lines(evidence: Evidence) -> list[str]:
    """One plain sentence a fact; none where nothing stands out."""
    return [
        *_of_rows(evidence.rows),
        *([_of_constant(evidence.constant)] if evidence.constant is not None and evidence.constant.targets else []),
        *(_of_known(one) for one in evidence.known[:MOST_KNOWN]),
        *map(_of_classes, evidence.classes),
        *map(_of_part, parts_to_tell(evidence)),
        *([_of_shared(evidence.shared)] if evidence.shared is not None else []),
        *([f"By its queries and keys the head attends {evidence.attends}."] if evidence.attends else []),
    ]


def counted_besides(evidence: Evidence) -> int:
    """How many facts are told that were counted on words besides the rows. What the head attends to is none of them: it
    says nothing of what the head writes, which is what tests are about."""
    whole = (evidence.shared, evidence.constant)
    several = (evidence.known[:MOST_KNOWN], evidence.classes, parts_to_tell(evidence))
    return sum(map(len, several)) + sum(one is not None for one in whole)


def told_words(evidence: Evidence) -> frozenset[str]:
    """The words of parts that are named, casefolded: whoever was told them is not tested on them."""
    return frozenset(core(row.token) for part in parts_to_tell(evidence) for row in part.rows[:PART_WORDS])


def parts_to_tell(evidence: Evidence, n: int = MOST_PARTS) -> Sequence[HeadPart]:
    """The `n` parts of largest share, in their places; none behind one that has nothing to show."""
    return list(takewhile(lambda part: part.rows and part.targets, evidence.parts[:n]))


def _of_part(part: HeadPart) -> str:
    return (
        f"For one group of words, such as {_listed(row.token for row in part.rows[:PART_WORDS])} ({part.share:.0%} of "
        f"what the input adds), the outputs have in common: {_listed(one.token for one in part.targets)}."
    )


def _of_rows(rows: Sequence[MappingRow]) -> Iterator[str]:
    copies = sum(any(core(t.token) == core(row.token) for t in row.targets) for row in rows)
    yield f"{copies} of {len(rows)} rows hold their own input in some spelling."
    words, k = shared_words(rows)
    if k >= SHARED_IN * len(rows):
        yield f"{k} of {len(rows)} rows hold one of these outputs: {_listed(words)}."


def _of_constant(part: ConstantPart) -> str:
    return (
        f"A part of every row is the same whatever the input ({part.share:.0%} of the length of these rows). By itself "
        f"it promotes {_listed(one.token for one in part.targets)}; what the input adds is the rest."
    )


def _of_known(one: KnownScore) -> str:
    n = one.n_pairs
    return (
        f"{label_of(one.operation)}: the outputs of {round(one.score * n)} of {n} known pairs are among the {one.k} "
        f"tokens that the head promotes most; of the same inputs with each other's outputs {round(one.shuffled * n)}."
    )


def _of_classes(one: ClassScore) -> str:
    return (
        f"{one.label}: so for {one.score:.0%} of {one.n_words} {one.source} (most often {_listed(one.words)}); "
        f"for {one.outside:.0%} of other words."
    )


def _of_shared(one: SharedScore) -> str:
    return (
        f"Whatever the input, {one.share:.0%} of the strongest outputs of {one.n_words} words are {one.target} "
        f"(most often {_listed(one.words)})."
    )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(map(as_data, words))
