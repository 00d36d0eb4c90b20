"""What the paper finds in a table of relation scores (its sections on universality, multi-functionality, shared heads).

All functions read a `ModelScores` and return small frozen results; tau is the score from which a head implements an
operation (0.15 in the paper). R operations, L layers, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from maps_engine.relations.thresholds import TAU
from maps_engine.scores.table import ModelScores

PERMUTATIONS = 2000


@dataclass(frozen=True)
class CategoryShare:
    """Share of heads that implement at least one operation of a category, over the model and per layer."""

    category: str
    share: float
    by_layer: tuple[float, ...]

    @property
    def by_third(self) -> tuple[float, float, float]:
        """Mean share in the lower, middle and upper third of the layers; nan for a third without layers."""
        n = len(self.by_layer)
        cuts = [round(i * n / 3) for i in range(4)]
        parts = [self.by_layer[a:b] for a, b in pairwise(cuts)]
        low, middle, high = (sum(part) / len(part) if part else float("nan") for part in parts)
        return low, middle, high


@dataclass(frozen=True)
class SharedValueHeads:
    """Do heads that share a value head implement the same operations? Mean Jaccard overlap of their sets."""

    observed: float
    expected: float  # mean under permutation of heads within their layer
    p: float
    n_pairs: int  # pairs of sharing heads of which at least one implements something
    note: str = ""


@dataclass(frozen=True)
class Opponents:
    """The strongest promoter and suppressor of one operation."""

    relation: str
    promoter: tuple[int, int]
    promotion: float
    suppressor: tuple[int, int]
    suppression: float

    @property
    def same_layer(self) -> bool:
        """Whether one layer holds both."""
        return self.promoter[0] == self.suppressor[0]


@dataclass(frozen=True)
class Universality:
    """One operation in two models: best score and the relative depth (0 first layer, 1 last) of the best head."""

    relation: str
    category: str
    heads: tuple[tuple[int, int], tuple[int, int]]
    scores: tuple[float, float]
    depths: tuple[float, float]
    in_both: bool


@dataclass(frozen=True)
class Findings:
    """All of the above for one model at one threshold."""

    tau: float
    categories: tuple[CategoryShare, ...]
    operations_per_head: tuple[int, ...]
    sharing: SharedValueHeads
    opponents: tuple[Opponents, ...]

    @property
    def n_implementing(self) -> int:
        """Heads that implement at least one operation."""
        return sum(self.operations_per_head[1:])

    @property
    def mean_operations(self) -> float:
        """Operations of a head that implements any; nan when none does."""
        total = sum(n * heads for n, heads in enumerate(self.operations_per_head))
        return total / self.n_implementing if self.n_implementing else float("nan")


def findings(scores: ModelScores, tau: float = TAU) -> Findings:
    """What the paper looks for in one model's table."""
    return Findings(
        tau,
        shares_by_category(scores, tau),
        operations_per_head(scores, tau),
        shared_value_heads(scores, tau),
        opponents(scores, tau),
    )


def implements(scores: ModelScores, tau: float = TAU) -> Tensor:
    """(R, L, H) of bool over the scored operations."""
    return scores.stacked() >= tau


def shares_by_category(scores: ModelScores, tau: float = TAU) -> tuple[CategoryShare, ...]:
    """For each category, the share of heads with at least one of its operations."""
    table = implements(scores, tau)
    found = []
    for category in sorted({one.category for one in scores.scored}):
        rows = [i for i, one in enumerate(scores.scored) if one.category == category]
        any_of = table[rows].any(0).float()
        found.append(CategoryShare(category, float(any_of.mean()), tuple(any_of.mean(1).tolist())))
    return tuple(found)


def operations_per_head(scores: ModelScores, tau: float = TAU) -> tuple[int, ...]:
    """Histogram: item n is the number of heads that implement exactly n operations."""
    counts = implements(scores, tau).sum(0).flatten()
    return tuple(torch.bincount(counts).tolist())


def shared_value_heads(
    scores: ModelScores, tau: float = TAU, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> SharedValueHeads:
    """Overlap of operations among heads of one value head, against heads dealt anew within each layer.

    p = (1 + permutations at least as extreme) / (1 + permutations), one-sided.
    """
    group = scores.n_heads // scores.n_value_heads
    table = implements(scores, tau)
    if group == 1 or not len(table) or scores.n_value_heads == 1:
        note = "every head has its own value head" if group == 1 else "all heads of a layer share one value head"
        return SharedValueHeads(float("nan"), float("nan"), float("nan"), 0, note if len(table) else "nothing scored")
    overlap = _overlaps(table)  # (L, H, H), nan where both heads implement nothing
    first, second = _sharing_pairs(scores.n_heads, group)
    observed, n_pairs = _mean_overlap(overlap, torch.arange(scores.n_heads).expand(len(overlap), -1), first, second)
    if not n_pairs:
        return SharedValueHeads(float("nan"), float("nan"), float("nan"), 0, "no head reaches the threshold")
    generator = torch.Generator().manual_seed(seed)
    orders = (torch.rand(overlap.shape[:2], generator=generator).argsort(-1) for _ in range(permutations))
    dealt = torch.stack([_mean_overlap(overlap, order, first, second)[0] for order in orders])
    p = (1 + int((dealt >= observed - 1e-12).sum())) / (1 + permutations)
    return SharedValueHeads(float(observed), float(dealt.nanmean()), p, int(n_pairs))


def _overlaps(table: Tensor) -> Tensor:
    sets = table.permute(1, 2, 0).double()  # (L, H, R)
    both = sets @ sets.mT
    size = sets.sum(-1)
    return both / (size.unsqueeze(-1) + size.unsqueeze(-2) - both)


def _sharing_pairs(n_heads: int, group: int) -> tuple[Tensor, Tensor]:
    """Both heads of every pair that shares a value head, each (n,)."""
    owner = torch.arange(n_heads) // group
    first, second = (owner.unsqueeze(0) == owner.unsqueeze(1)).triu(1).nonzero(as_tuple=True)
    return first, second


def _mean_overlap(overlap: Tensor, order: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the pairs with heads dealt by `order` (L, H), and the number of pairs that count."""
    layer = torch.arange(len(overlap)).unsqueeze(1)
    values = overlap[layer, order[:, first], order[:, second]]
    return values.nanmean(), (~values.isnan()).sum()


def opponents(scores: ModelScores, tau: float = TAU) -> tuple[Opponents, ...]:
    """Operations with both a promoter and a suppressor at tau or above, strongest first."""
    found = []
    for one in scores.scored:
        if one.score is None or one.suppression is None:
            continue
        promoter, suppressor = (_where_max(t) for t in (one.score, one.suppression))
        pair = Opponents(one.name, promoter, float(one.score.max()), suppressor, float(one.suppression.max()))
        if min(pair.promotion, pair.suppression) >= tau:
            found.append(pair)
    return tuple(sorted(found, key=lambda pair: -min(pair.promotion, pair.suppression)))


def _where_max(table: Tensor) -> tuple[int, int]:
    return divmod(int(table.argmax()), table.shape[1])


def universality(one: ModelScores, other: ModelScores, tau: float = TAU) -> tuple[Universality, ...]:
    """Operations scored in both models, those present in both first."""
    others = {relation.name: relation for relation in other.scored}
    rows = []
    for mine in one.scored:
        theirs = others.get(mine.name)
        if theirs is None or theirs.score is None or mine.score is None:
            continue
        scores = (float(mine.score.max()), float(theirs.score.max()))
        depths = (_depth(mine.score), _depth(theirs.score))
        heads = (_where_max(mine.score), _where_max(theirs.score))
        rows.append(Universality(mine.name, mine.category, heads, scores, depths, min(scores) >= tau))
    return tuple(sorted(rows, key=lambda row: (not row.in_both, -min(row.scores))))


def _depth(table: Tensor) -> float:
    return _where_max(table)[0] / max(1, table.shape[0] - 1)
