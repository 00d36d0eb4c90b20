"""How far a relation score could be chance: the null of unrelated pairs for the same head.

Sources stay the operation's sources and targets its targets, but who belongs to whom is shuffled. A head that writes
the same few capitals whatever it reads scores under the shuffle too; a head that knows which capital does not. The
null rate q = (hits + 1/2) / (pairs + 1) over all shuffled pairs gives the exact binomial p = P(X >= hits) for
X ~ Bin(n, q), and z = (phi - q) / sqrt(q (1 - q) / n): a score of 0.15 on 40 pairs is not read as 0.15 on 500.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import binom
from torch import Tensor

from maps_engine.relations import PairScores, PairSet

ROUNDS = 5


@dataclass(frozen=True)
class Significance:
    """Null rate, z and p of every head, each (L, H)."""

    null: Tensor
    z: Tensor
    p: Tensor


def shuffled(pair_set: PairSet, *, rounds: int = ROUNDS, seed: int = 0) -> PairSet:
    """`rounds` copies of the pairs with targets dealt to other sources; an own target is never dealt."""
    rng = random.Random(seed)
    own = dict(zip(pair_set.sources, pair_set.targets, strict=True))
    sources: list[int] = []
    targets: list[tuple[int, ...]] = []
    for _ in range(rounds):
        dealt = list(pair_set.targets)
        rng.shuffle(dealt)
        for source, accepted in zip(pair_set.sources, dealt, strict=True):
            left = tuple(t for t in accepted if t not in own[source])
            if left:
                sources.append(source)
                targets.append(left)
    return PairSet(tuple(sources), tuple(targets), pair_set.k)


def significance(scores: Tensor, null_scores: Tensor, *, n: int, n_null: int) -> Significance:
    """z and p of `scores` (L, H) on n pairs, against the null scores on n_null shuffled pairs."""
    if not n or not n_null:
        nothing = torch.full_like(scores, torch.nan)
        return Significance(nothing, nothing, nothing)
    null = (null_scores.double() * n_null + 0.5) / (n_null + 1)
    z = (scores.double() - null) / (null * (1 - null) / n).sqrt()
    hits = (scores.double() * n).round()
    p = torch.from_numpy(binom.sf(hits.numpy() - 1, n, null.numpy()))
    return Significance(null, z, p)


def both_sides(scores: PairScores, null: PairScores, *, n: int, n_null: int) -> tuple[Significance, Significance]:
    """Significance of promotion and of suppression."""
    return (
        significance(scores.score, null.score, n=n, n_null=n_null),
        significance(scores.suppression, null.suppression, n=n, n_null=n_null),
    )


def best_of(alternatives: Sequence[Significance], index: Tensor) -> Significance:
    """For each head the alternative that `index` (L, H) names; p corrected for having picked among them."""
    null, z, p = (
        torch.stack([getattr(one, name) for one in alternatives]).gather(0, index[None])[0]
        for name in ("null", "z", "p")
    )
    return Significance(null, z, (p * len(alternatives)).clamp(max=1))


def corrected(p: float, tries: int) -> float:
    """p of the best of `tries` heads (Bonferroni)."""
    return min(1.0, p * tries)
