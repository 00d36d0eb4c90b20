"""Which pairs of tokens have an entry among the k largest, or smallest, of their row of M: exact, and mostly cheap.

An entry is inside when fewer than k entries of its row are larger by more than rounding. Counting may stop at k, and a
block of entries whose maximum is larger counts as one, so nearly all rows of unrelated heads are out after a thin
sample of the vocabulary, in d_h columns per head (W_O U). The rows left, a few hundred a layer, are walked through the
whole vocabulary together, all heads in one product, and dropped as soon as they are decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maps_engine.ov.circuit import OVCircuit, UnembeddingTable
from maps_engine.ov.top_entries import top_entries

SAMPLE = 1024  # tokens of the thin sample
CHUNK = 8192  # tokens of one product with the rows that are left
BLOCK = 16
ROWS_AT_ONCE = 2048
PAIRS_AT_ONCE = 16384  # a row with many pairs is read once for each
ROUNDING = 2.0**-19  # times ||y|| ||u||: more than float32 sums of d terms in two orders can differ by


@dataclass(frozen=True)
class Entries:
    """Entries (source, target) of M, several for a pair with several acceptable targets. Flat, pair by pair."""

    sources: Tensor  # (S,) source ids, each once
    targets: Tensor  # (T,) target ids, each once
    row: Tensor  # (N,) index into sources
    target: Tensor  # (N,) index into targets
    pair: Tensor  # (N,) index of the pair
    pair_row: Tensor  # (P,) index into sources
    k: Tensor  # (P,)


@dataclass(frozen=True)
class _Undecided:
    """Pairs whose rows must be looked at whole. `bound` is what an entry must exceed to count as larger."""

    written: Tensor  # (n, d) rows before U
    row: Tensor  # (m,) index into written
    side: Tensor  # (m,) 0: among the largest, 1: among the smallest (rows are negated)
    bound: Tensor  # (m,)
    k: Tensor  # (m,)
    place: Tensor  # (m,) where the answer belongs, flat


def inside_lists(circuit: OVCircuit, heads: Sequence[int], entries: Entries) -> Tensor:
    """(2, H', P) of bool: pair within the k largest of its row for each of `heads`, within the k smallest."""
    n = len(entries.k)
    inside = torch.zeros(2, len(heads), n, dtype=torch.bool, device=entries.k.device)
    if not len(entries.row):
        return inside
    a, _ = circuit.values(entries.sources)
    targets = circuit.unembedding.rows(entries.targets)
    waiting: list[_Undecided] = []
    for i, head in enumerate(heads):
        found = _sift(circuit, head, a[:, head // circuit.heads.group], targets, entries)
        place = (found.side * len(heads) + i) * n + found.place
        waiting.append(replace(found, place=place))
        if sum(len(one.written) for one in waiting) >= ROWS_AT_ONCE or i == len(heads) - 1:
            together = _joined(waiting)
            inside.view(-1)[together.place] = _inside(together, circuit.unembedding)
            waiting = []
    return inside


def _sift(circuit: OVCircuit, head: int, a: Tensor, targets: Tensor, entries: Entries) -> _Undecided:
    """The pairs of one head that a thin sample of the vocabulary leaves undecided; `place` is the pair."""
    output = circuit.heads.output[head]
    written = a @ output
    bounds = _bounds(a, written, output, targets, entries)
    u = circuit.unembedding.rows(_spread(circuit.unembedding.weights.shape.vocab_size, SAMPLE)[0])
    narrow = len(a) * (written.shape[1] - a.shape[1]) > output.numel()
    sample = a @ (output @ u.T) if narrow else written @ u.T
    larger = [_larger_blocks(_maxima(sample, side), entries.pair_row, bounds[side]) for side in (0, 1)]
    side, pair = ((torch.stack(larger) < entries.k) & (bounds > -torch.inf)).nonzero(as_tuple=True)
    rows, row = entries.pair_row[pair].unique(return_inverse=True)
    return _Undecided(written[rows], row, side, bounds[side, pair], entries.k[pair], pair)


def _bounds(a: Tensor, written: Tensor, output: Tensor, targets: Tensor, entries: Entries) -> Tensor:
    """(2, P): the best target's entry of every pair and its rounding, as M stands and negated."""
    score = (a[entries.row] * (targets @ output.T)[entries.target]).sum(-1)
    slack = written.norm(dim=-1)[entries.row] * targets.norm(dim=-1)[entries.target] * ROUNDING
    best = score.new_full((2, len(entries.k)), -torch.inf)
    return best.scatter_reduce_(1, entries.pair.expand(2, -1), torch.stack([score, -score]) + slack, "amax")


def _joined(parts: Sequence[_Undecided]) -> _Undecided:
    """Pairs of several heads as one."""
    offsets = [0]
    for one in parts:
        offsets.append(offsets[-1] + len(one.written))
    return _Undecided(
        torch.cat([one.written for one in parts]),
        torch.cat([one.row + offset for one, offset in zip(parts, offsets, strict=False)]),
        *(torch.cat([getattr(one, name) for one in parts]) for name in ("side", "bound", "k", "place")),
    )


def _inside(asked: _Undecided, unembedding: UnembeddingTable) -> Tensor:
    """(m,) of bool: fewer than k entries of the whole row exceed the bound."""
    larger = torch.zeros_like(asked.k)
    for part in _spread(unembedding.weights.shape.vocab_size, CHUNK):
        left = (larger < asked.k).nonzero().squeeze(-1)
        if not len(left):
            break
        rows, row = asked.row[left].unique(return_inverse=True)
        chunk = asked.written[rows] @ unembedding.rows(part).T
        for side in (0, 1):
            own = asked.side[left] == side
            at = left[own]
            larger[at] += _larger(chunk, side, row[own], asked.bound[at], asked.k[at] - larger[at])
    return larger < asked.k


def _larger(chunk: Tensor, side: int, row: Tensor, bound: Tensor, enough: Tensor) -> Tensor:
    """(m,): how many entries of rows `row` of `chunk` exceed the bound, exact where fewer than `enough` (m,)."""
    found = _larger_blocks(_maxima(chunk, side), row, bound)
    open_ = ((found < enough) & (found > 0)).nonzero().squeeze(-1)
    if len(open_):
        rows, index = row[open_].unique(return_inverse=True)
        signed = chunk[rows] if side == 0 else -chunk[rows]
        best, _ = top_entries(signed, int(enough[open_].max()))
        found[open_] = (best[index] > bound[open_].unsqueeze(-1)).sum(-1)
    return found


def _maxima(chunk: Tensor, side: int) -> Tensor:
    """(n, blocks + rest): maxima of blocks of entries that lie apart, for side 1 of the negated entries."""
    n, m = chunk.shape
    blocks = m // BLOCK
    whole = chunk[:, : blocks * BLOCK].view(n, BLOCK, blocks)
    rest = chunk[:, blocks * BLOCK :]
    return torch.cat([whole.amax(1), rest], 1) if side == 0 else torch.cat([whole.amin(1), rest], 1).neg_()


def _larger_blocks(maxima: Tensor, row: Tensor, bound: Tensor) -> Tensor:
    """(m,): in how many blocks of its row an entry exceeds the bound."""
    parts = zip(row.split(PAIRS_AT_ONCE), bound.split(PAIRS_AT_ONCE), strict=True)
    return torch.cat([(maxima[at] > limit.unsqueeze(-1)).sum(-1) for at, limit in parts])


def _spread(size: int, width: int) -> list[slice]:
    """The vocabulary in chunks of about `width` tokens, each thinly spread over the whole of it."""
    step = max(1, size // width)
    return [slice(start, size, step) for start in range(step)]
