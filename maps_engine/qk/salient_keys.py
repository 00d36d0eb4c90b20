"""Which words a head lets attend to which others: the strongest of its queries with their keys, and keys liked by all.

Only the part of a logit that depends on query and key together is listed for a query; what all queries like of a key is
told apart (docs/method.md, "What a head attends to").
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from maps_engine.model import Vocabulary
from maps_engine.qk.content import Content
from maps_engine.results import MappingRow, ScoredToken

QUERIES: Final = 10
KEYS: Final = 8


def salient_queries(read: Content, head: int, ids: Tensor, vocabulary: Vocabulary) -> tuple[MappingRow, ...]:
    """Queries whose centred logits spread widest over keys (their standard deviation, nats), each with its best keys.

    ids (n,): tokens of the words. Never n x n: the spread of a query q is sqrt(q K'K q' / n).
    """
    queries, keys = read.centred.queries[head], read.centred.keys[head]
    spread = ((queries @ (keys.T @ keys)) * queries).sum(dim=1).clamp_min(0).sqrt() / len(keys) ** 0.5
    values, chosen = spread.topk(min(QUERIES, len(ids)))
    best = (queries[chosen] @ keys.T).topk(min(KEYS, len(ids)), dim=1)
    return tuple(
        MappingRow(vocabulary.text(token), token, salience, _scored(scores, ids[places], vocabulary))
        for token, salience, scores, places in zip(
            ids[chosen].tolist(), values.tolist(), best.values, best.indices, strict=True
        )
    )


def popular_keys(
    read: Content, head: int, ids: Tensor, vocabulary: Vocabulary
) -> tuple[tuple[ScoredToken, ...], tuple[ScoredToken, ...]]:
    """Keys that all queries prefer, and those that all avoid, most first; scores in nats from the mean key."""
    of_keys = read.popularity[head]
    most, least = (of_keys.topk(min(KEYS, len(ids)), largest=largest) for largest in (True, False))
    return (
        _scored(most.values, ids[most.indices], vocabulary),
        _scored(least.values, ids[least.indices], vocabulary),
    )


def _scored(scores: Tensor, ids: Tensor, vocabulary: Vocabulary) -> tuple[ScoredToken, ...]:
    return tuple(
        ScoredToken(vocabulary.text(token), token, score)
        for token, score in zip(ids.tolist(), scores.tolist(), strict=True)
    )
