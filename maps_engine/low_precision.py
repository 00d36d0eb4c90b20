"""The same lists from bfloat16 scans, proven equal to float32's.

A scan in bfloat16 costs less than half of one in float32 where the processor multiplies bfloat16. It only proposes:
a generous set of candidates is ranked again in float32, and an upper bound on every entry that was not a candidate,
made of the rounding residuals that really occurred (not of worst cases), shows that none of them can belong to the
list. Where the bound does not show it, that list is computed in float32 after all.

With ~ for the rounded matrix and dA = A - ~A:
  entry     y.u      |error| <= |dy| |u| + |~y| |du| + EPS |~y.~u|
  salience  |x W R|  |error| <= |dx| |W R|_2 + |~x| |dW R|_2 + |~a| |dR|_2 + EPS (|~a| |R|_2 + |~a ~R|)
where EPS is the rounding of a product's result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from maps_engine.ov_circuit import OVCircuit, UnembeddingTable, chunks, written_norms
from maps_engine.salience import salient_tokens
from maps_engine.top_entries import top_entries

LOW = torch.bfloat16
EPS = 2.0**-8 + 2.0**-12  # rounding of a result to bfloat16, with room for the float32 sums inside the product
CHUNK = 8192
ROWS_AT_ONCE = 2**26  # entries of a block of rows of M held at once (128 MiB in bfloat16)


def pays_off(device: torch.device) -> bool:
    """Whether this processor multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    flags = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else ""
    return "AVX512" in flags and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


@dataclass
class _Rounded:
    """Rows in bfloat16 with the norms of what was lost."""

    rows: Tensor  # (n, d) bfloat16
    lost: Tensor  # (n,) ||row - rounded row||
    norms: Tensor  # (n,) ||row||

    @classmethod
    def of(cls, rows: Tensor) -> _Rounded:
        low = rows.to(LOW)
        return cls(low, (rows - low.to(rows.dtype)).norm(dim=-1), rows.norm(dim=-1))


class LowPrecisionScan:
    """Salient tokens and targets for all heads of a model; X and U are held in bfloat16.

    Exact rows come from the tables, which hold them in float32 or read them again (see `SourceEngine.hold_tables`).
    """

    def __init__(self, unembedding: UnembeddingTable) -> None:
        self.unembedding = unembedding
        self.fallbacks = 0  # salience lists computed in float32 after all
        self.widened = 0  # rows of M that needed more candidates
        self._tokens: tuple[tuple[int, bool], _Rounded] | None = None

    @cached_property
    def targets(self) -> _Rounded:
        """U in bfloat16."""
        return _rounded_in_chunks(self.unembedding.rows, self.unembedding.weights.shape.vocab_size, unit=False)

    def _sources(self, circuit: OVCircuit) -> _Rounded:
        """X in bfloat16, rows of unit length; kept while layers have the same X."""
        table, layer = circuit.table, circuit.layer
        kind = (id(table), table.is_stored(layer))
        if self._tokens is None or self._tokens[0] != kind:
            size = table.weights.shape.vocab_size
            self._tokens = None  # the old one goes before the new one is made
            self._tokens = (kind, _rounded_in_chunks(lambda part: table.rows(layer, part), size, unit=True))
        return self._tokens[1]

    def salient_tokens(self, circuit: OVCircuit, *, top: int, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `salience.salient_tokens` for all heads of the layer: values and ids (H, top)."""
        upper = self._upper_saliences(circuit)
        if allowed is not None:
            upper.masked_fill_(~allowed, -1.0)
        bound, candidates = top_entries(upper, 8 * top + 64)
        found = [
            self._rank_tokens(circuit, head, candidates[head], bound[head, -1], top, allowed)
            for head in range(len(upper))
        ]
        return torch.stack([v for v, _ in found]), torch.stack([i for _, i in found])

    def _upper_saliences(self, circuit: OVCircuit) -> Tensor:
        """(H, V): at least the salience of every token."""
        x, heads, factors = self._sources(circuit), circuit.heads, circuit.factors
        k, d, d_h = heads.value.shape
        value, low_factors = heads.value.to(LOW), factors.to(LOW)
        errors = _SalienceError(heads.value, value, factors, low_factors, heads.group)
        flat = value.permute(1, 0, 2).reshape(d, k * d_h)
        upper = torch.empty(len(heads.output), len(x.rows), device=x.rows.device)
        for part in chunks(len(x.rows), CHUNK):
            a = (x.rows[part] @ flat).view(-1, k, d_h)
            sigma = written_norms(a, low_factors, heads.group)
            sigma += errors.bound(x.lost[part], a, sigma)
            upper[:, part] = sigma.T
        return upper

    def _rank_tokens(
        self, circuit: OVCircuit, head: int, ids: Tensor, bound: Tensor, top: int, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        sigma = circuit.salience_of(head, ids)
        if allowed is not None:
            sigma = sigma.masked_fill(~allowed[ids], -1.0)
        values, order = _ranked(sigma, ids, top)
        if len(ids) < circuit.table.weights.shape.vocab_size and not bound < values[-1]:
            self.fallbacks += 1
            exact, found = salient_tokens(circuit, top=top, allowed=allowed, head=head)
            return exact[0], found[0]
        return values, order

    def top_targets(
        self, written: Tensor, *, targets: int, allowed: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """As `salience.top_targets`, for `written` y (n, d)."""
        at_once = max(1, ROWS_AT_ONCE // len(self.targets.rows))
        pieces = [self._targets_of(y, targets, allowed) for y in written.split(at_once)]
        return (
            (torch.cat([p[0][0] for p in pieces]), torch.cat([p[0][1] for p in pieces])),
            (torch.cat([p[1][0] for p in pieces]), torch.cat([p[1][1] for p in pieces])),
        )

    def _targets_of(
        self, written: Tensor, targets: int, allowed: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        length = written.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        y = _Rounded.of(written / length)
        scores = y.rows @ self.targets.rows.T
        sides = []
        for side in range(2):
            if side:
                scores.neg_()
            if allowed is not None:
                scores.masked_fill_(~allowed, -torch.inf)
            sides.append(self._rank_targets(-written if side else written, y, length, scores, targets))
        (low, ids) = sides[1]
        return sides[0], (-low, ids)

    def _rank_targets(
        self, written: Tensor, y: _Rounded, length: Tensor, scores: Tensor, targets: int
    ) -> tuple[Tensor, Tensor]:
        """The exact list of every row, from the bfloat16 `scores` of unit rows (n, V)."""
        bound, ids = top_entries(scores, 3 * targets + 1)
        rows = torch.arange(len(ids), device=ids.device).unsqueeze(-1).expand_as(ids)
        exact = self._exact(written, rows, ids).masked_fill(bound == -torch.inf, -torch.inf)
        values, found = _ranked(exact, ids, targets)
        error = y.lost * self.targets.norms.max() + y.norms * self.targets.lost.max()
        last = bound[:, -1].float()
        kth = values[:, -1] / length.squeeze(-1)
        for row in (~(last + EPS * last.abs() + error < kth)).nonzero().squeeze(-1).tolist():
            self.widened += 1
            values[row], found[row] = self._widen(written, y, scores, kth, row, targets)
        return values, found

    def _widen(
        self, written: Tensor, y: _Rounded, scores: Tensor, kth: Tensor, row: int, targets: int
    ) -> tuple[Tensor, Tensor]:
        """One row again, with every entry that its own error does not rule out as a candidate."""
        own = scores[row].float()
        error = y.lost[row] * self.targets.norms + y.norms[row] * self.targets.lost + EPS * own.abs()
        ids = ((own + error >= kth[row]) & (own > -torch.inf)).nonzero().squeeze(-1)
        if len(ids) < targets:  # fewer tokens allowed than targets asked for
            ids = own.topk(targets).indices
        exact = self._exact(written, torch.full_like(ids, row), ids).masked_fill(own[ids] == -torch.inf, -torch.inf)
        return _ranked(exact, ids, targets)

    def _exact(self, written: Tensor, rows: Tensor, ids: Tensor) -> Tensor:
        """M entries in float32 for positions (row of `written`, token id) of one shape."""
        return torch.linalg.vecdot(written[rows], self.unembedding.rows(ids.flatten()).view(*ids.shape, -1))


@dataclass(frozen=True)
class _SalienceError:
    """How far a salience computed in bfloat16 can be from the true one, for rows x of unit length."""

    value: Tensor
    low_value: Tensor
    factors: Tensor
    low_factors: Tensor
    group: int

    @cached_property
    def _norms(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Spectral norms (H,) of W R, dW R, dR and R."""
        k, d_h, _ = self.factors.shape
        r = self.factors.view(k, d_h, self.group, -1).transpose(1, 2)  # (K, g, d_h, r)
        low = self.low_factors.to(r.dtype).view(k, d_h, self.group, -1).transpose(1, 2)
        w = self.value.unsqueeze(1)
        lost = (self.value - self.low_value.to(w.dtype)).unsqueeze(1)
        return (
            _spectral(w @ r).flatten(),
            _spectral(lost @ r).flatten(),
            _spectral(r - low).flatten(),
            _spectral(r).flatten(),
        )

    def bound(self, lost: Tensor, a: Tensor, sigma: Tensor) -> Tensor:
        """(n, H) for rows that lost `lost` (n,), values a (n, K, d_h) and saliences sigma (n, H)."""
        wr, dwr, dr, r = self._norms
        read = torch.linalg.vector_norm(a, dim=-1, dtype=torch.float32).repeat_interleave(self.group, dim=1)
        return lost.unsqueeze(-1) * wr + 1.01 * dwr + read * (dr + EPS * r) + EPS * sigma


def _spectral(m: Tensor) -> Tensor:
    """Largest singular value of (…, a, b), b small, through the b x b Gram matrix, rounded up."""
    gram = m.double().mT @ m.double()
    return (torch.linalg.eigvalsh(gram)[..., -1].clamp_min(0).sqrt() * (1 + 1e-6)).to(m.dtype)


def _rounded_in_chunks(rows: Callable[[slice], Tensor], size: int, *, unit: bool) -> _Rounded:
    """All `size` rows in bfloat16, of unit length where asked for; zero rows stay zero."""
    whole: _Rounded | None = None
    for part in chunks(size, CHUNK):
        exact = rows(part)
        piece = _Rounded.of(exact / exact.norm(dim=-1, keepdim=True).clamp_min(1e-30) if unit else exact)
        if whole is None:  # filled in place: joining pieces would need twice the memory
            whole = _Rounded(*(one.new_empty(size, *one.shape[1:]) for one in (piece.rows, piece.lost, piece.norms)))
        whole.rows[part], whole.lost[part], whole.norms[part] = piece.rows, piece.lost, piece.norms
    assert whole is not None
    return whole


def _ranked(values: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of `values` with their ids, equal values by lower id."""
    by_id = ids.argsort(dim=-1, stable=True)
    values, ids = values.gather(-1, by_id), ids.gather(-1, by_id)
    order = values.argsort(dim=-1, descending=True, stable=True)[..., :k]
    return values.gather(-1, order), ids.gather(-1, order)
