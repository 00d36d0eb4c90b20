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

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.ov_circuit import OVCircuit, UnembeddingTable
from maps_engine.top_entries import top_entries

FIRST_CHUNK = 1024
NEXT_CHUNK = 8192
PRUNE_BLOCK = 16
STACKED_ENTRIES = 8192  # entries over all heads of a layer that are still scanned together
ROUNDING = 2.0**-19  # times ||y|| ||u||: more than float32 sums of d terms in two orders can differ by


@dataclass(frozen=True)
class PairSet:
    """Pairs of token ids under one k: sources[i] should map to any of targets[i]."""

    sources: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    k: int


@dataclass(frozen=True)
class PairScores:
    """phi of every head: shares in [0, 1], each (L', H') for the layers and heads asked for."""

    score: Tensor
    suppression: Tensor


@dataclass(frozen=True)
class _Entries:
    """All (source row, target) entries of all pair sets, flat: one item an entry."""

    sources: Tensor  # (S,) unique source ids
    targets: Tensor  # (T,) unique target ids
    row: Tensor  # (N,) index into sources
    target: Tensor  # (N,) index into targets
    k: Tensor  # (N,)
    pair: Tensor  # (N,) index of the pair over all sets
    pair_set: Tensor  # (P,) index of the set of every pair


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
    hits: list[Tensor] = []
    entries: _Entries | None = None
    for circuit in circuits:
        entries = entries or _flatten(pair_sets, circuit.heads.value.device)
        chosen = range(circuit.heads.output.shape[0]) if heads is None else heads
        hits.append(_layer_shares(circuit, entries, len(pair_sets), chosen))
        if progress is not None:
            progress(circuit.layer)
    stacked = torch.stack(hits)  # (L', 2, sets, H)
    return [PairScores(stacked[:, 0, i].cpu(), stacked[:, 1, i].cpu()) for i in range(len(pair_sets))]


def _flatten(pair_sets: Sequence[PairSet], device: torch.device) -> _Entries:
    ids = sorted({s for one in pair_sets for s in one.sources})
    target_ids = sorted({t for one in pair_sets for accepted in one.targets for t in accepted})
    index = {s: i for i, s in enumerate(ids)}
    target_index = {t: i for i, t in enumerate(target_ids)}
    rows: list[int] = []
    targets: list[int] = []
    ks: list[int] = []
    pairs: list[int] = []
    owner: list[int] = []
    for set_index, one in enumerate(pair_sets):
        for source, accepted in zip(one.sources, one.targets, strict=True):
            for target in accepted:
                rows.append(index[source])
                targets.append(target_index[target])
                ks.append(one.k)
                pairs.append(len(owner))
            owner.append(set_index)

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return _Entries(
        tensor(ids), tensor(target_ids), tensor(rows), tensor(targets), tensor(ks), tensor(pairs), tensor(owner)
    )


def _layer_shares(circuit: OVCircuit, entries: _Entries, n_sets: int, heads: Sequence[int]) -> Tensor:
    """(2, sets, H'): phi and suppression of `heads` of one layer."""
    device = entries.row.device
    shares = torch.zeros(2, n_sets, len(heads), device=device)
    if not len(entries.row):
        return shares
    sizes = torch.bincount(entries.pair_set, minlength=n_sets).clamp_min(1)
    a, _ = circuit.values(entries.sources)
    targets = circuit.unembedding.rows(entries.targets)
    for i, (promoted, suppressed) in enumerate(_decide(circuit, heads, a, targets, entries)):
        for side, inside in enumerate((promoted, suppressed)):
            hit = torch.zeros(len(entries.pair_set), device=device)
            hit[entries.pair[inside]] = 1.0
            shares[side, :, i] = torch.bincount(entries.pair_set, weights=hit, minlength=n_sets) / sizes
    return shares


def _decide(
    circuit: OVCircuit, heads: Sequence[int], a: Tensor, targets: Tensor, entries: _Entries
) -> Iterator[tuple[Tensor, Tensor]]:
    """For every head two masks (N,): entry within the k largest, within the k smallest."""
    if len(entries.row) * len(heads) > STACKED_ENTRIES:
        for head in heads:
            yield _head_scan(circuit, head, a[:, head // circuit.heads.group], targets, entries).run()
        return
    promoted, suppressed = _stacked_scan(circuit, heads, a, targets, entries).run()
    yield from zip(promoted.view(len(heads), -1), suppressed.view(len(heads), -1), strict=True)


def _head_scan(circuit: OVCircuit, head: int, a: Tensor, targets: Tensor, entries: _Entries) -> _Scan:
    """One head and many sources: everything that can goes through d_h columns."""
    output = circuit.heads.output[head]
    written = a @ output
    score = (a[entries.row] * (targets @ output.T)[entries.target]).sum(-1)
    slack = written.norm(dim=-1)[entries.row] * targets.norm(dim=-1)[entries.target] * ROUNDING
    return _Scan(written, score, slack, entries.row, entries.k, circuit.unembedding, (a, output))


def _stacked_scan(circuit: OVCircuit, heads: Sequence[int], a: Tensor, targets: Tensor, entries: _Entries) -> _Scan:
    """Few sources: the rows of all heads, one head after the other, so that each step is one large product."""
    chosen = torch.tensor(list(heads), device=a.device)
    written = torch.bmm(a[:, chosen // circuit.heads.group].transpose(0, 1), circuit.heads.output[chosen])
    score = (written[:, entries.row] * targets[entries.target]).sum(-1).flatten()
    slack = (written.norm(dim=-1)[:, entries.row] * targets.norm(dim=-1)[entries.target] * ROUNDING).flatten()
    offset = torch.arange(len(chosen), device=a.device).unsqueeze(-1) * written.shape[1]
    row = (entries.row + offset).flatten()
    return _Scan(written.flatten(0, 1), score, slack, row, entries.k.repeat(len(chosen)), circuit.unembedding)


class _Scan:
    """Entries of rows of M: walks the vocabulary until every entry is known to be inside or outside its list.

    written (n, d) are the rows before U; score and slack (N,) the entries and their rounding; row (N,) says where.
    """

    def __init__(
        self,
        written: Tensor,
        score: Tensor,
        slack: Tensor,
        row: Tensor,
        k: Tensor,
        unembedding: UnembeddingTable,
        narrow: tuple[Tensor, Tensor] | None = None,  # a (n, d_h) and W_O (d_h, d), where all rows are one head's
    ) -> None:
        self.written, self.score, self.slack, self.row, self.k = written, score, slack, row, k
        self.unembedding, self.narrow = unembedding, narrow
        self.k_max = int(k.max())

    def run(self) -> tuple[Tensor, Tensor]:
        """Two masks (N,): entry within the k largest, entry within the k smallest."""
        n, device = len(self.row), self.written.device
        lists = [torch.full((len(self.written), self.k_max), -torch.inf, device=device) for _ in range(2)]
        alive = [torch.ones(n, dtype=torch.bool, device=device) for _ in range(2)]
        for part, seen in spread_chunks(self.unembedding.weights.shape.vocab_size):
            rows = self._rows_of(alive)
            if not len(rows):
                break
            chunk = self._chunk(rows, part)
            if seen is None:
                rows, chunk = self._prune(rows, chunk, alive)
            for side, sign in enumerate((1.0, -1.0)):
                signed = chunk if side == 0 else chunk.neg_()
                if seen is not None:
                    signed[:, seen] = -torch.inf
                found, _ = top_entries(signed, self.k_max)
                lists[side][rows] = torch.cat([lists[side][rows], found], 1).topk(self.k_max, dim=-1).values
                alive[side] &= self._still_inside(lists[side], sign)
        return alive[0], alive[1]

    def _rows_of(self, alive: list[Tensor]) -> Tensor:
        """Source rows that still have an undecided entry."""
        active = torch.zeros(len(self.written), dtype=torch.bool, device=self.written.device)
        active[self.row[alive[0] | alive[1]]] = True
        return active.nonzero().squeeze(-1)

    def _prune(self, rows: Tensor, chunk: Tensor, alive: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Drop rows by block maxima alone: the k-th of them is at most the k-th entry. `rows` are all rows."""
        blocks = chunk.shape[1] // PRUNE_BLOCK
        if blocks < 2 * self.k_max:
            return rows, chunk
        whole = chunk[:, : blocks * PRUNE_BLOCK].view(len(rows), blocks, PRUNE_BLOCK)
        for side, sign in enumerate((1.0, -1.0)):
            maxima = whole.amax(-1) if side == 0 else whole.amin(-1).neg_()
            alive[side] &= self._still_inside(maxima.topk(self.k_max, dim=-1).values, sign)
        kept = self._rows_of(alive)
        return kept, chunk[kept]

    def _chunk(self, rows: Tensor, part: slice) -> Tensor:
        """(rows, width of part) of M, through d_h columns where that is cheaper than through d."""
        u = self.unembedding.rows(part)
        if self.narrow is not None:
            a, output = self.narrow
            d_h, d = output.shape
            if len(rows) * (d - d_h) > d_h * d:
                return a[rows] @ (output @ u.T)
        return self.written[rows] @ u.T

    def _still_inside(self, best: Tensor, sign: float) -> Tensor:
        kth = best[self.row, self.k - 1]
        return sign * self.score >= kth - self.slack


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
