"""Relation scores phi_R(h) and suppression scores of all heads for many operations at once (docs/method.md, "Operation
to heads: the relation score" and "Suppression").

A pair (s, t) counts for head h when fewer than k entries of row s of M_h are larger than M_h[s, t]; suppression is the
same on -M_h. Entries within float32 rounding of the target's count as equal, and equal entries do not push a target
out. With several acceptable targets the best one decides.

Rows of one source are computed once, however many operations use it; `maps_engine.ov.entry_ranks` decides which entries
are inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from maps_engine.ov.circuit import OVCircuit
from maps_engine.ov.entry_ranks import Entries, inside_lists

Item = TypeVar("Item")


@dataclass(frozen=True)
class PairSet:
    """Pairs of token ids under one k: sources[i] should map to any of targets[i].

    `others` are sources of which the operation says that they do not: a control, and no part of the score.
    """

    sources: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    k: int
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class PairScores:
    """phi of every head: shares in [0, 1], each (L', H') for the layers and heads asked for."""

    score: Tensor
    suppression: Tensor


def score_pairs(
    circuits: Iterable[OVCircuit],
    pair_sets: Sequence[PairSet],
    *,
    heads: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[PairScores]:
    """Score `pair_sets` on every head of `circuits` (one circuit a layer), all sets in one pass a layer.

    `heads` limits the heads of each layer; scores then have one column for each of them.
    """
    shares: list[Tensor] = []
    entries: Entries | None = None
    owners = [index for index, one in enumerate(pair_sets) for _ in one.sources]
    for circuit in circuits:
        device = circuit.heads.value.device
        entries = entries or _flatten(pair_sets, device)
        chosen = range(circuit.heads.output.shape[0]) if heads is None else heads
        inside = inside_lists(circuit, chosen, entries)
        shares.append(_shares(inside, torch.tensor(owners, dtype=torch.long, device=device), len(pair_sets)))
        if progress is not None:
            progress(circuit.layer)
    stacked = torch.stack(shares).cpu()  # (L', 2, sets, H')
    return [PairScores(stacked[:, 0, i], stacked[:, 1, i]) for i in range(len(pair_sets))]


def in_parts(items: Iterable[Item], size: Callable[[Item], int], *, at_most: int) -> Iterator[list[Item]]:
    """`items` in order, cut where the sizes of one part together would exceed `at_most`; a larger item is alone."""
    part: list[Item] = []
    total = 0
    for item in items:
        if part and total + size(item) > at_most:
            yield part
            part, total = [], 0
        part.append(item)
        total += size(item)
    if part:
        yield part


def _flatten(pair_sets: Sequence[PairSet], device: torch.device) -> Entries:
    """All entries of all pairs; pairs in the order of the sets."""
    pairs = [
        (source, accepted, one.k)
        for one in pair_sets
        for source, accepted in zip(one.sources, one.targets, strict=True)
    ]
    sources = sorted({source for source, _, _ in pairs})
    targets = sorted({target for _, accepted, _ in pairs for target in accepted})
    row_of = {source: i for i, source in enumerate(sources)}
    column_of = {target: i for i, target in enumerate(targets)}

    def tensor(values: Iterable[int]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.long, device=device)

    return Entries(
        sources=tensor(sources),
        targets=tensor(targets),
        row=tensor(row_of[source] for source, accepted, _ in pairs for _ in accepted),
        target=tensor(column_of[target] for _, accepted, _ in pairs for target in accepted),
        pair=tensor(i for i, (_, accepted, _) in enumerate(pairs) for _ in accepted),
        pair_row=tensor(row_of[source] for source, _, _ in pairs),
        k=tensor(k for _, _, k in pairs),
    )


def _shares(inside: Tensor, owners: Tensor, n_sets: int) -> Tensor:
    """(2, sets, H'): share of each set's pairs that are inside; `inside` (2, H', P), `owners` (P,) their sets."""
    flat = inside.flatten(0, 1).T.float()  # (P, 2 H')
    hits = flat.new_zeros(n_sets, flat.shape[1]).index_add_(0, owners, flat)
    sizes = torch.bincount(owners, minlength=n_sets).clamp_min(1).unsqueeze(-1)
    return (hits / sizes).T.view(2, inside.shape[1], n_sets).transpose(1, 2)
