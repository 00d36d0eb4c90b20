"""The same lists from bfloat16 scans, proven equal to float32's.

A scan in bfloat16 costs less than half of one in float32 where the processor multiplies bfloat16. It only proposes:
a generous set of candidates is ranked again in float32, and an upper bound on every entry that was not a candidate,
made of the rounding residuals that really occurred (not of worst cases), shows that none of them can belong to the
list. Where the bound does not show it, every entry that is not ruled out becomes a candidate.

With ~ for the rounded matrix and dA = A - ~A:
  entry     y.u      |error| <= |dy| |u| + |~y| |du| + EPS |~y.~u| + S_d |y| |u|
  written   |x W R|  |error| <= |dx| |W R|_2 + |~x| (|dW R|_2 + S_d |W|_F |R|_2)
                                + |~a| (|dR|_2 + S_h |R|_F) + EPS (|~a| |R|_2 + |~a ~R|)
where EPS is the rounding of a product's result, and once more of a norm's, and S_n = n 2^-24 what a float32 sum of n
terms can lose. Entries are bounded by blocks of 64 tokens first, so that a row of M costs two passes over its bfloat16
entries. A block's tokens lie `n_blocks` apart: maxima over neighbours are three times slower, as they do not fill
vector registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from maps_engine.ov.circuit import OVCircuit, UnembeddingTable, chunks, written_norms
from maps_engine.ov.top_entries import BLOCK, top_entries

LOW = torch.bfloat16
EPS = 2.0**-8  # rounding of a result to bfloat16
FLOAT32 = 2.0**-24  # rounding of one float32 operation
CHUNK = 2048  # rows at once: what a chunk becomes stays in the processor's cache
MANY = 0.05  # share of rows that need more candidates, from which on all get more
WIDEST = 8  # times as many candidates as at first
ROWS_AT_ONCE = 2**26  # entries of a block of rows of M held at once (128 MiB in bfloat16)


def pays_off(device: torch.device) -> bool:
    """Whether this processor multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    flags = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else ""
    return "AVX512" in flags and _cpu_has_bf16()


@contextmanager
def _exact_sums(device: torch.device) -> Iterator[None]:
    """Products that sum in float32 throughout: a GPU may otherwise add partial sums in bfloat16, which EPS misses."""
    if device.type != "cuda":
        yield
        return
    rules = torch.backends.cuda.matmul
    before = rules.allow_bf16_reduced_precision_reduction
    rules.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        rules.allow_bf16_reduced_precision_reduction = before


def _cpu_has_bf16() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


@dataclass
class _Rounded:
    """Rows in bfloat16 with the norms of what was lost."""

    rows: Tensor  # (n, d) bfloat16
    lost: Tensor  # (n,) ||row - rounded row||
    norms: Tensor  # (n,) ||row||
    is_exact: bool  # nothing was lost, as with the stored tables of a checkpoint in bfloat16

    @classmethod
    def of(cls, rows: Tensor) -> _Rounded:
        """Of (n, d) float32 rows."""
        low = rows.to(LOW)
        lost = low.to(rows.dtype).sub_(rows)
        return cls(low, lost.norm(dim=-1), rows.norm(dim=-1), not bool(lost.any()))

    @classmethod
    def in_chunks(cls, rows: Callable[[slice], Tensor], size: int) -> _Rounded:
        """All `size` rows, filled in place: joining pieces would need twice the memory."""
        whole: _Rounded | None = None
        for part in chunks(size, CHUNK):
            piece = cls.of(rows(part))
            if whole is None:
                new = piece.rows.new_empty(size, piece.rows.shape[1])
                whole = cls(new, piece.lost.new_empty(size), piece.norms.new_empty(size), piece.is_exact)
            whole.rows[part], whole.lost[part], whole.norms[part] = piece.rows, piece.lost, piece.norms
            whole.is_exact &= piece.is_exact
        assert whole is not None
        return whole


@dataclass
class _Unembedding:
    """U in bfloat16 with what bounds blocks of 64 entries at once; the few tokens after the last block stand alone."""

    table: _Rounded

    @cached_property
    def n_blocks(self) -> int:
        return len(self.table.rows) // BLOCK

    @cached_property
    def block_norms(self) -> Tensor:
        """(n_blocks,): the largest ||u|| of each block."""
        return self._largest(self.table.norms)

    @cached_property
    def block_lost(self) -> Tensor:
        """(n_blocks,): the largest ||du|| of each block."""
        return self._largest(self.table.lost)

    def _largest(self, values: Tensor) -> Tensor:
        return values[: self.n_blocks * BLOCK].view(BLOCK, self.n_blocks).amax(0)


class LowPrecisionScan:
    """Salient tokens and targets for all heads of a model; U and the X of every representation are held in bfloat16.

    Exact rows come from the tables, which hold them in float32 or read them again (see `SourceEngine.hold_tables`).
    """

    def __init__(self, unembedding: UnembeddingTable) -> None:
        self.unembedding = unembedding
        self.widened_lists = 0  # salience lists that needed more candidates
        self.widened_rows = 0  # rows of M that did
        self._tokens: dict[int, tuple[int, _Rounded]] = {}  # by table of X
        self._scores: Tensor | None = None
        self._wider = 1  # times as many candidates, once a model has shown that it needs them

    @cached_property
    def targets(self) -> _Unembedding:
        """U in bfloat16."""
        return _Unembedding(_Rounded.in_chunks(self.unembedding.rows, self.unembedding.weights.shape.vocab_size))

    def _sources(self, circuit: OVCircuit) -> _Rounded:
        """X in bfloat16; kept while layers have the same X."""
        table, layer = circuit.table, circuit.layer
        version, key = table.version(layer), id(table)
        if key not in self._tokens or self._tokens[key][0] != version:
            size = table.weights.shape.vocab_size
            self._tokens.pop(key, None)  # the old one goes before the new one is made
            self._tokens[key] = (version, _Rounded.in_chunks(lambda part: table.rows(layer, part), size))
        return self._tokens[key][1]

    def salient_tokens(self, circuit: OVCircuit, *, top: int, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `salience.salient_tokens` for all heads of the layer: values and ids (H, top)."""
        with _exact_sums(circuit.heads.value.device):
            upper = self._upper_saliences(circuit)
        if allowed is not None:
            upper.masked_fill_(~allowed, -1.0)
        bound, ids = top_entries(upper, 3 * top + 32)
        sigma = circuit.saliences_of(ids)
        if allowed is not None:
            sigma.masked_fill_(~allowed[ids], -1.0)
        values, found = _ranked(sigma, ids, top)
        if ids.shape[1] < upper.shape[1]:
            numbers = values.isfinite().all(dim=-1)  # what is none is the caller's to refuse
            for head in (~(bound[:, -1] < values[:, -1]) & numbers).nonzero().squeeze(-1).tolist():
                self.widened_lists += 1
                ids = (upper[head] >= values[head, -1]).nonzero().squeeze(-1)
                sigma = circuit.salience_of(head, ids).masked_fill(upper[head, ids] < 0, -1.0)
                values[head], found[head] = _ranked(sigma, ids, top)
        return values, found

    def _upper_saliences(self, circuit: OVCircuit) -> Tensor:
        """(H, V): at least the salience of every token."""
        x, heads, factors = self._sources(circuit), circuit.heads, circuit.factors
        k, d, d_h = heads.value.shape
        value, low_factors = heads.value.to(LOW), factors.to(LOW)
        errors = _SalienceError(heads.value, value, factors, low_factors, heads.group, heads.value_bias)
        flat = value.permute(1, 0, 2).reshape(d, k * d_h)
        upper = torch.empty(len(heads.output), len(x.rows), device=x.rows.device)
        for part in chunks(len(x.rows), CHUNK):
            a = (x.rows[part] @ flat).view(-1, k, d_h)
            if heads.value_bias is not None:
                a += heads.value_bias
            sigma = written_norms(a, low_factors, heads.group)
            sigma += errors.bound(x.lost[part], x.norms[part], a, sigma)
            upper[:, part] = (sigma / x.norms[part].clamp_min(1e-30).unsqueeze(-1)).T
        return upper

    def top_targets(
        self, written: Tensor, *, targets: int, allowed: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """As `salience.top_targets`, for `written` y (n, d)."""
        at_once = max(1, ROWS_AT_ONCE // len(self.targets.table.rows))
        pieces = [self._targets_of(y, targets, allowed) for y in written.split(at_once)]
        return (
            (torch.cat([p[0][0] for p in pieces]), torch.cat([p[0][1] for p in pieces])),
            (torch.cat([p[1][0] for p in pieces]), torch.cat([p[1][1] for p in pieces])),
        )

    def _targets_of(
        self, written: Tensor, targets: int, allowed: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        y = _Rounded.of(written)
        with _exact_sums(written.device):
            scores = torch.mm(y.rows, self.targets.table.rows.T, out=self._room(len(written)))
        sides = []
        for side in range(2):
            if side:
                scores.neg_()
            if allowed is not None:
                scores.masked_fill_(~allowed, -torch.inf)
            sides.append(self._rank_targets(-written if side else written, y, scores, targets))
        (low, ids) = sides[1]
        return sides[0], (-low, ids)

    def _room(self, n: int) -> Tensor:
        """(n, V) in bfloat16, the same memory every time: fresh pages cost as much as filling them."""
        if self._scores is None or len(self._scores) < n:
            table = self.targets.table.rows
            self._scores = table.new_empty(n, len(table))
        return self._scores[:n]

    def _rank_targets(self, written: Tensor, y: _Rounded, scores: Tensor, targets: int) -> tuple[Tensor, Tensor]:
        """The exact list of every row, from its bfloat16 `scores` (n, V)."""
        ids, bound = self._candidates(y, scores, self._wider * (2 * targets + 4))
        exact = self._exact(written, ids).masked_fill(scores.gather(1, ids) == -torch.inf, -torch.inf)
        values, found = _ranked(exact, ids, targets)
        kth = values[:, -1]
        undecided = (~((bound < kth) | (bound == -torch.inf) | kth.isnan())).nonzero().squeeze(-1).tolist()
        if len(undecided) > MANY * len(ids):
            self._wider = min(2 * self._wider, WIDEST)
        for row in undecided:
            self.widened_rows += 1
            values[row], found[row] = self._widen(written, y, scores, kth, row, targets)
        return values, found

    def _candidates(self, y: _Rounded, scores: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
        """Ids (n, wanted) of the entries with the largest upper bounds, and (n,) a bound on all others."""
        u, width = self.targets, self.targets.n_blocks * BLOCK
        wanted, n_picked = min(wanted, scores.shape[1]), min(wanted, u.n_blocks)
        lost, length = (y.lost + _sums(y) * y.norms).unsqueeze(-1), (y.norms + y.lost).unsqueeze(-1)
        best = _rounded_up(scores[:, :width].unflatten(1, (BLOCK, u.n_blocks)).amax(1))
        best += lost * u.block_norms + length * u.block_lost
        blocks = best.topk(min(n_picked + 1, u.n_blocks), dim=-1)
        picked = blocks.indices[:, :n_picked]
        inside = torch.arange(BLOCK, device=scores.device) * u.n_blocks
        ids = (picked.unsqueeze(-1) + inside).flatten(1)
        tail = torch.arange(width, scores.shape[1], device=scores.device).expand(len(ids), -1)
        ids = torch.cat([ids, tail], 1) if tail.shape[1] else ids
        upper = _rounded_up(scores.gather(1, ids)) + lost * u.table.norms[ids] + length * u.table.lost[ids]
        first = upper.topk(min(wanted + 1, upper.shape[1]), dim=-1)
        others = [one[:, -1] for one, n in ((blocks.values, n_picked), (first.values, wanted)) if one.shape[1] > n]
        bound = torch.stack(others).amax(0) if others else upper.new_full((len(ids),), -torch.inf)
        return ids.gather(1, first.indices[:, :wanted]), bound

    def _widen(
        self, written: Tensor, y: _Rounded, scores: Tensor, kth: Tensor, row: int, targets: int
    ) -> tuple[Tensor, Tensor]:
        """One row again, with every entry that its own error does not rule out as a candidate."""
        own, u = scores[row].float(), self.targets.table
        lost = y.lost[row] + _sums(y) * y.norms[row]
        error = lost * u.norms + (y.norms[row] + y.lost[row]) * u.lost
        ids = ((_rounded_up(own) + error >= kth[row]) & (own > -torch.inf)).nonzero().squeeze(-1)
        if len(ids) < targets:  # fewer tokens allowed than targets asked for
            ids = own.topk(targets).indices
        exact = self._exact(written[row : row + 1], ids.unsqueeze(0))[0].masked_fill(own[ids] == -torch.inf, -torch.inf)
        return _ranked(exact, ids, targets)

    def _exact(self, written: Tensor, ids: Tensor) -> Tensor:
        """(n, m): M entries in float32 of rows `written` (n, d) for token ids (n, m)."""
        low = self.targets.table
        rows = low.rows[ids.flatten()].to(written.dtype) if low.is_exact else self.unembedding.rows(ids.flatten())
        u = rows.view(*ids.shape, -1)
        return (u @ written.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class _SalienceError:
    """How far ||x W_V W_O|| computed in bfloat16 can be from the true one."""

    value: Tensor
    low_value: Tensor
    factors: Tensor
    low_factors: Tensor
    group: int
    value_bias: Tensor | None = None

    @cached_property
    def _norms(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Bounds (H,) on the spectral norms of W R, dW R, dR and R; those of dW R and dR hold the sums' loss too."""
        k, d_h, _ = self.factors.shape
        r = self.factors.view(k, d_h, self.group, -1).transpose(1, 2)  # (K, g, d_h, r)
        low = self.low_factors.to(r.dtype).view(k, d_h, self.group, -1).transpose(1, 2)
        lost = self.value - self.low_value.to(self.value.dtype)
        grams = [m.mT @ m for m in (self.value, lost)]  # |W R|_2^2 is the largest eigenvalue of R^T (W^T W) R
        of_products = [r.mT @ g.unsqueeze(1) @ r for g in grams]
        of_factors = [m.mT @ m for m in (r - low, r)]
        found = _largest_eigenvalues(torch.stack(of_products + of_factors)).sqrt()
        wr, dwr, dr, rr = found.flatten(1)
        # sums of d and of d_h terms in float32
        sums_d, sums_h = (n * FLOAT32 for n in self.value.shape[1:])
        w_size = self.value.flatten(1).norm(dim=-1).repeat_interleave(self.group)
        return wr, dwr + sums_d * w_size * rr, dr + sums_h * r.flatten(0, 1).flatten(1).norm(dim=-1), rr

    def bound(self, lost: Tensor, norms: Tensor, a: Tensor, written: Tensor) -> Tensor:
        """(n, H) for rows of `norms` (n,) that lost `lost` (n,), values a (n, K, d_h) and results `written` (n, H)."""
        wr, dwr, dr, r = self._norms
        read = torch.linalg.vector_norm(a, dim=-1).float()
        if self.value_bias is not None:  # a was rounded before the bias was added and after
            read = 2 * read + self.value_bias.norm(dim=-1)
        read = read.repeat_interleave(self.group, dim=1)
        # |a| and the result were rounded as entries and again as norms
        of_value = (1 + EPS) * read * (dr + EPS * r) + 2.02 * EPS * written
        return lost.unsqueeze(-1) * wr + (norms + lost).unsqueeze(-1) * dwr + of_value


def _largest_eigenvalues(grams: Tensor) -> Tensor:
    """At least the largest eigenvalue of (…, b, b) Gram matrices, at most b^(1/32) times it: tr(G^32)^(1/32)."""
    scale = grams.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-30)
    power = grams.double() / scale[..., None, None]  # float32 cannot hold the 32nd power of 1 / b
    for _ in range(4):
        power = power @ power
    trace = power.flatten(-2).square().sum(-1)  # tr(G^32) = |G^16|_F^2
    return (trace.pow(1 / 32) * (1 + 1e-5)).to(grams.dtype) * scale  # the factor covers roundings of float32


def _sums(y: _Rounded) -> float:
    """What a product with rows of y can lose in its float32 sums, of |y| |u|."""
    return y.rows.shape[-1] * FLOAT32


def _rounded_up(low: Tensor) -> Tensor:
    """At least the number that each entry was rounded from; -inf stays -inf."""
    return low.float() * torch.where(low > 0, 1 + EPS, 1 - EPS)


def _ranked(values: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of `values` with their ids, equal values by lower id."""
    by_id = ids.argsort(dim=-1, stable=True)
    values, ids = values.gather(-1, by_id), ids.gather(-1, by_id)
    order = values.argsort(dim=-1, descending=True, stable=True)[..., :k]
    return values.gather(-1, order), ids.gather(-1, order)
