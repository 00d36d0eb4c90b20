"""Which pairs of an operation an experiment runs: one-token sources, or sources of several tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from maps_engine.model import Vocabulary
from maps_engine.relations.encoding import encode_relation
from maps_engine.relations.format import Relation
from maps_engine.relations.thresholds import MIN_PAIRS

MAX_SOURCE_TOKENS = 6  # of a source of several tokens
Source = tuple[int, ...]  # token ids


@dataclass(frozen=True)
class SourcePairs:
    """Pairs under one k whose sources may take several tokens: sources[i] should map to any of targets[i]."""

    sources: tuple[Source, ...]
    targets: tuple[tuple[int, ...], ...]
    k: int

    @property
    def fingerprint(self) -> str:
        """12 hex digits that change with any pair or k."""
        text = json.dumps([self.sources, self.targets, self.k])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class NamedPairs(Protocol):
    """Pairs that are run and stored under one name."""

    @property
    def name(self) -> str:
        """What their file is called."""

    @property
    def pairs(self) -> SourcePairs:
        """What is run."""


Named = TypeVar("Named", bound=NamedPairs)


@dataclass(frozen=True)
class ChosenPairs:
    """An operation and the pairs that are run; `usable` is how many its vocabulary can express."""

    relation: Relation
    pairs: SourcePairs
    usable: int

    @property
    def name(self) -> str:
        return self.relation.name

    @property
    def fingerprint(self) -> str:
        return self.pairs.fingerprint


@dataclass(frozen=True)
class TooFew:
    """An operation with too few pairs that are single tokens in this vocabulary."""

    name: str
    usable: int
    pairs: int

    @property
    def why(self) -> str:
        return f"too few pairs ({self.usable} of {self.pairs})"


def one_token_pairs(
    relations: Iterable[Relation],
    vocabulary: Vocabulary,
    *,
    max_pairs: int | None = None,
    min_pairs: int = MIN_PAIRS,
    k: int | None = None,
) -> tuple[list[ChosenPairs], list[TooFew]]:
    """Pairs of single tokens, and the relations with fewer than `min_pairs`; k overrides each relation's own.

    Of a relation with more than `max_pairs`, pairs evenly spread over it.
    """
    encoded = ((one, encode_relation(one, vocabulary)) for one in relations)
    rows = (
        (relation, tuple((source,) for source in found.source_ids), found.target_ids) for relation, found in encoded
    )
    return _chosen(rows, max_pairs, min_pairs, k)


def several_token_pairs(
    relations: Iterable[Relation],
    vocabulary: Vocabulary,
    *,
    max_pairs: int | None = None,
    min_pairs: int = MIN_PAIRS,
    k: int | None = None,
) -> tuple[list[ChosenPairs], list[TooFew]]:
    """Pairs whose source takes 2 to MAX_SOURCE_TOKENS tokens and whose target is one token."""
    return _chosen((_several(one, vocabulary) for one in relations), max_pairs, min_pairs, k)


def _several(
    relation: Relation, vocabulary: Vocabulary
) -> tuple[Relation, tuple[Source, ...], tuple[tuple[int, ...], ...]]:
    found: dict[Source, tuple[int, ...]] = {}
    for source, targets in relation.pairs:
        ids = tuple(vocabulary.encode(f" {source}" if relation.source_space else source))
        if not 2 <= len(ids) <= MAX_SOURCE_TOKENS or ids in found:
            continue
        singles = (vocabulary.single_id(word, leading_space=relation.target_space) for word in targets)
        kept = tuple(dict.fromkeys(token for token in singles if token is not None))
        if kept:
            found[ids] = kept
    return relation, tuple(found), tuple(found.values())


def _chosen(
    rows: Iterable[tuple[Relation, tuple[Source, ...], tuple[tuple[int, ...], ...]]],
    max_pairs: int | None,
    min_pairs: int,
    k: int | None,
) -> tuple[list[ChosenPairs], list[TooFew]]:
    chosen, few = [], []
    for relation, sources, targets in rows:
        if len(sources) < max(1, min_pairs):
            few.append(TooFew(relation.name, len(sources), relation.n_pairs))
            continue
        kept = spread(len(sources), max_pairs)
        pairs = SourcePairs(tuple(sources[i] for i in kept), tuple(targets[i] for i in kept), k or relation.k)
        chosen.append(ChosenPairs(relation, pairs, len(sources)))
    return chosen, few


def spread(n: int, at_most: int | None) -> list[int]:
    """`at_most` of range(n), evenly spread; all of them for None."""
    if at_most is None or n <= at_most:
        return list(range(n))
    return [i * n // at_most for i in range(at_most)]


def in_groups(chosen: Sequence[Named], *, max_sources: int) -> list[list[Named]]:
    """Operations that run together, so that a source they share runs once; a group has at most `max_sources`.

    The next operation of a group is the one with the largest share of sources that the group already has. An
    operation with more sources than that is a group of its own.
    """
    left = {one.name: (one, set(one.pairs.sources)) for one in chosen}
    groups: list[list[Named]] = []
    while left:
        held: set[Source] = set()
        group: list[Named] = []
        while left:
            name = max(left, key=lambda n: len(left[n][1] & held) / len(left[n][1]))
            one, sources = left[name]
            if group and len(held | sources) > max_sources:
                break
            group.append(one)
            held |= sources
            del left[name]
        groups.append(group)
    return groups
