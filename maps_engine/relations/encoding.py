"""Pairs of words to pairs of token ids: what a tokenizer leaves of an operation.

A pair is used when its source is one token and at least one acceptable target is. Under "first-token" a longer target
counts by its first token. In an operation of the catalogue, copying apart, a target whose token is the source itself
does not count (Mexico -> Mexico City by its first token): it would score a copying head. The user's own pairs all
count, since only the user knows what they are meant to measure. See docs/method.md, "Operation to heads: the relation
score".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from maps_engine.errors import UserMistake
from maps_engine.model import Vocabulary
from maps_engine.relations.format import Relation

TargetRule = Literal["single", "first-token"]

SOURCE_SPLIT = "source takes several tokens"
TARGET_SPLIT = "no target is one token"
FIRST_IS_SOURCE = "target begins with the source token"
SAME_SOURCE = "another pair has the same source token"
JOINED = "another row has the same source: its targets are joined"


@dataclass(frozen=True, slots=True)
class EncodedRelation:
    """A relation in one vocabulary; `target_ids[i]` are the acceptable targets of `source_ids[i]`."""

    name: str
    source_ids: tuple[int, ...]
    target_ids: tuple[tuple[int, ...], ...]
    n_pairs: int  # of the operation; of an own file, its rows
    target: TargetRule
    dropped: tuple[tuple[str, int], ...]  # reason and number of pairs, most frequent first

    @property
    def n_used(self) -> int:
        """Pairs that this vocabulary can score."""
        return len(self.source_ids)


def encode_relation(relation: Relation, vocabulary: Vocabulary, *, target: TargetRule = "single") -> EncodedRelation:
    """The relation's pairs as token ids, and how many pairs fell out for which reason.

    Raises UserMistake for another `target` than the two rules.
    """
    if target not in ("single", "first-token"):
        raise UserMistake("unknown rule for targets", got=target, expected='"single" or "first-token"')
    used: dict[int, tuple[int, ...]] = {}
    dropped: Counter[str] = Counter({JOINED: relation.joined} if relation.joined else ())
    for source, targets in relation.pairs:
        source_id = vocabulary.single_id(source, leading_space=relation.source_space)
        if source_id is None:
            dropped[SOURCE_SPLIT] += 1
            continue
        ids = _target_ids(relation, vocabulary, targets, target)
        kept = ids if relation.identity or relation.own else [token for token in ids if token != source_id]
        if not kept:
            dropped[FIRST_IS_SOURCE if ids else TARGET_SPLIT] += 1
        elif source_id in used:
            dropped[SAME_SOURCE] += 1
        else:
            used[source_id] = tuple(dict.fromkeys(kept))
    return EncodedRelation(
        name=relation.name,
        source_ids=tuple(used),
        target_ids=tuple(used.values()),
        n_pairs=relation.n_pairs + relation.joined,
        target=target,
        dropped=tuple(dropped.most_common()),
    )


def _target_ids(relation: Relation, vocabulary: Vocabulary, targets: tuple[str, ...], rule: TargetRule) -> list[int]:
    found = []
    for word in targets:
        token = vocabulary.single_id(word, leading_space=relation.target_space)
        if token is None and rule == "first-token":
            token = _first_token(vocabulary, f" {word}" if relation.target_space else word)
        if token is not None:
            found.append(token)
    return found


def _first_token(vocabulary: Vocabulary, text: str) -> int | None:
    """The first token of `text`, unless it is a bare space (as before a number) and so says nothing of it."""
    ids = vocabulary.encode(text)
    return ids[0] if ids and vocabulary.text(ids[0]).strip() else None
