"""Relation scores phi_R(h) and suppression scores of all heads for many operations at once (METHOD, question a).

A pair (s, t) counts for head h when fewer than k entries of row s of M_h are larger than M_h[s, t]; suppression is the
same on -M_h. Entries within float32 rounding of the target's count as equal, and equal entries do not push a target
out. With several acceptable targets the best one decides.

What makes it fast, and stays exact: rows of one source are computed once however many operations use it; a row is cut
into chunks of the vocabulary, and is dropped as soon as every target of it is known to be outside both lists, which
for an unrelated head is after the first, thinly spread chunk; a chunk of U is brought down to d_h columns per head
(W_O U) when many rows share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.ov_circuit import OVCircuit, UnembeddingTable
from maps_engine.top_entries import top_entries

FIRST_CHUNK = 1024
NEXT_CHUNK = 8192
ROUNDING = 2.0**-19  # of the entry's own bound ||a|| ||W_O u||-ish scale: float32 sums of d_h..d terms


@dataclass(frozen=True)
class PairSet:
    """Pairs of token ids under one k: sources[i] should map to any of targets[i]."""

    sources: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    k: int


@dataclass(frozen=True)
class PairScores:
    """phi of every head: shares in [0, 1], each (L', H) for the L' layers asked for."""

    score: Tensor
    suppression: Tensor


@dataclass(frozen=True)
class _Entries:
    """All (source row, target) entries of all pair sets, flat: one item an entry."""

    sources: Tensor  # (S,) unique source ids
    row: Tensor  # (N,) index into sources
    target: Tensor  # (N,) token id
    k: Tensor  # (N,)
    pair: Tensor  # (N,) index of the pair over all sets
    pair_set: Tensor  # (P,) index of the set of every pair


def score_pairs(
    circuits: Iterable[OVCircuit],
    pair_sets: Sequence[PairSet],
    *,
    progress: Callable[[int], None] | None = None,
) -> list[PairScores]:
    """Score `pair_sets` on every head of `circuits` (one circuit a layer), all sets in one pass a layer."""
    hits: list[Tensor] = []
    for circuit in circuits:
        entries = _flatten(pair_sets, circuit.heads.value.device)
        hits.append(_layer_shares(circuit, entries, len(pair_sets)))
        if progress is not None:
            progress(circuit.layer)
    stacked = torch.stack(hits)  # (L', 2, sets, H)
    return [PairScores(stacked[:, 0, i].cpu(), stacked[:, 1, i].cpu()) for i in range(len(pair_sets))]


def _flatten(pair_sets: Sequence[PairSet], device: torch.device) -> _Entries:
    ids = sorted({s for one in pair_sets for s in one.sources})
    index = {s: i for i, s in enumerate(ids)}
    rows: list[int] = []
    targets: list[int] = []
    ks: list[int] = []
    pairs: list[int] = []
    owner: list[int] = []
    for set_index, one in enumerate(pair_sets):
        for source, accepted in zip(one.sources, one.targets, strict=True):
            for target in accepted:
                rows.append(index[source])
                targets.append(target)
                ks.append(one.k)
                pairs.append(len(owner))
            owner.append(set_index)

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return _Entries(tensor(ids), tensor(rows), tensor(targets), tensor(ks), tensor(pairs), tensor(owner))


def _layer_shares(circuit: OVCircuit, entries: _Entries, n_sets: int) -> Tensor:
    """(2, sets, H): phi and suppression of every head of one layer."""
    n_heads = circuit.heads.output.shape[0]
    shares = torch.zeros(2, n_sets, n_heads, device=entries.row.device)
    if not len(entries.row):
        return shares
    sizes = torch.bincount(entries.pair_set, minlength=n_sets).clamp_min(1)
    a, _ = circuit.values(entries.sources)
    for head in range(n_heads):
        scan = _HeadScan(circuit, head, a[:, head // circuit.heads.group], entries)
        for side, inside in enumerate(scan.run()):
            hit = torch.zeros(len(entries.pair_set), device=a.device)
            hit[entries.pair[inside]] = 1.0
            shares[side, :, head] = torch.bincount(entries.pair_set, weights=hit, minlength=n_sets) / sizes
    return shares


class _HeadScan:
    """One head against all entries: walks the vocabulary until every entry is decided."""

    def __init__(self, circuit: OVCircuit, head: int, a: Tensor, entries: _Entries) -> None:
        self.output, self.unembedding = circuit.heads.output[head], circuit.unembedding
        self.a, self.entries = a, entries
        self.k_max = int(entries.k.max())
        written = a @ self.output
        self.score = _dot_rows(written, entries.row, self.unembedding, entries.target)
        scale = written.norm(dim=-1)[entries.row] * target_norms(self.unembedding, entries.target)
        self.slack = scale * ROUNDING
        self.written = written

    def run(self) -> tuple[Tensor, Tensor]:
        """Two masks (N,): entry within the k largest, entry within the k smallest."""
        n, device = len(self.entries.row), self.a.device
        lists = [torch.full((len(self.a), self.k_max), -torch.inf, device=device) for _ in range(2)]
        alive = [torch.ones(n, dtype=torch.bool, device=device) for _ in range(2)]
        for part, seen in spread_chunks(self.unembedding.weights.shape.vocab_size):
            active = torch.zeros(len(self.a), dtype=torch.bool, device=device)
            active[self.entries.row[alive[0] | alive[1]]] = True
            rows = active.nonzero().squeeze(-1)
            if not len(rows):
                break
            chunk = self._chunk(rows, part)
            for side, sign in enumerate((1.0, -1.0)):
                signed = chunk if side == 0 else chunk.neg_()
                if seen is not None:
                    signed[:, seen] = -torch.inf
                found, _ = top_entries(signed, self.k_max)
                merged = torch.cat([lists[side][rows], found], 1).topk(self.k_max, dim=-1).values
                lists[side][rows] = merged
                alive[side] &= self._still_inside(lists[side], sign)
        return alive[0], alive[1]

    def _chunk(self, rows: Tensor, part: slice) -> Tensor:
        """(rows, width of part) of M, through d_h columns where that is cheaper than through d."""
        u = self.unembedding.rows(part)
        d_h, d = self.output.shape
        if len(rows) * (d - d_h) > d_h * d:
            return self.a[rows] @ (self.output @ u.T)
        return self.written[rows] @ u.T

    def _still_inside(self, best: Tensor, sign: float) -> Tensor:
        kth = best[self.entries.row, self.entries.k - 1]
        return sign * self.score >= kth - self.slack


def target_norms(unembedding: UnembeddingTable, ids: Tensor) -> Tensor:
    """||u_t|| of `ids` (N,), each distinct id read once."""
    unique, back = ids.unique(return_inverse=True)
    return unembedding.rows(unique).norm(dim=-1)[back]


def _dot_rows(written: Tensor, row: Tensor, unembedding: UnembeddingTable, target: Tensor) -> Tensor:
    """y[row] . u[target] for every entry, in bounded pieces."""
    unique, back = target.unique(return_inverse=True)
    u = unembedding.rows(unique)
    pieces = [(written[r] * u[t]).sum(-1) for r, t in zip(row.split(8192), back.split(8192), strict=True)]
    return torch.cat(pieces)


def spread_chunks(size: int) -> list[tuple[slice, slice | None]]:
    """The vocabulary in chunks, the first one thinly spread over it so that it stands for the whole.

    Each comes with the columns of it that the first chunk already held.
    """
    step = max(1, size // FIRST_CHUNK)
    parts: list[tuple[slice, slice | None]] = [(slice(0, size, step), None)]
    if step == 1:
        return parts
    for start in range(0, size, NEXT_CHUNK):
        parts.append((slice(start, min(start + NEXT_CHUNK, size)), slice(-start % step, None, step)))
    return parts
