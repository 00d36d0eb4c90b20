"""The map M_h = X W_V W_O U of the heads of one layer, in factors: never V x V, never d x d.

a = x W_V            (n, d_h)  what the value head reads from a token; shared by its query heads
y = a W_O            (n, d)    what head h writes
M[s, t] = y_s . u_t            how strongly h promotes t when it reads s
||x W_V W_O|| = ||a R^T||      where W_O^T = Q R: d_h numbers instead of d

See docs/method.md, "The map of one head" and "Exact shortcuts".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from maps_engine.model import ModelWeights
from maps_engine.ov.folding import Folding, HeadMatrices
from maps_engine.ov.sources import CHUNK, Sources


class UnembeddingTable:
    """Rows of U transposed as heads write to them (behind the final norm where folded), on demand or held."""

    def __init__(self, weights: ModelWeights, folding: Folding) -> None:
        self.weights, self.folding = weights, folding
        self._held: Tensor | None = None

    def rows(self, ids: Tensor | slice) -> Tensor:
        """(n, d)."""
        if self._held is not None:
            return self._held[ids]
        return self.folding.unembedding(self.weights, ids)

    def hold(self) -> Tensor:
        """(V, d): all rows, read once and kept."""
        if self._held is None:
            shape = self.weights.shape
            table = torch.empty(shape.vocab_size, shape.d_model, dtype=self.weights.dtype, device=self.weights.device)
            for part in chunks(shape.vocab_size, CHUNK):
                table[part] = self.folding.unembedding(self.weights, part)
            self._held = table
        return self._held


def chunks(size: int, width: int) -> list[slice]:
    """Slices of at most `width` that cover range(size)."""
    return [slice(start, min(start + width, size)) for start in range(0, size, width)]


@dataclass(frozen=True)
class OVCircuit:
    """All heads of one layer between what they read and what they write to."""

    layer: int
    heads: HeadMatrices
    table: Sources
    unembedding: UnembeddingTable

    @cached_property
    def factors(self) -> Tensor:
        """(K, d_h, H/K * r), r = min(d_h, d): R^T of every query head, those of one value head side by side."""
        k, g = self.heads.value.shape[0], self.heads.group
        r = torch.linalg.qr(self.heads.output.float().mT, mode="r").R  # (H, r, d_h)
        return r.mT.unflatten(0, (k, g)).permute(0, 2, 1, 3).flatten(2).to(self.heads.output.dtype)

    def values(self, ids: Tensor | slice) -> tuple[Tensor, Tensor]:
        """a (n, K, d_h) and ||x|| (n,) of the tokens `ids`."""
        x = self.table.rows(self.layer, ids)
        return self.heads.values(x), x.norm(dim=-1)

    def salience(self, ids: Tensor | slice) -> Tensor:
        """(n, H): sigma = ||x W_V W_O|| / ||x||, a ratio without unit; 0 where x is 0."""
        a, x_norm = self.values(ids)
        return written_norms(a, self.factors, self.heads.group) / x_norm.clamp_min(1e-30).unsqueeze(-1)

    def salience_of(self, head: int, ids: Tensor) -> Tensor:
        """(n,): saliences of tokens `ids` for one head, from what it writes."""
        x = self.table.rows(self.layer, ids)
        written = self.heads.read(x, head) @ self.heads.output[head]
        return written.norm(dim=-1) / x.norm(dim=-1).clamp_min(1e-30)

    def saliences_of(self, ids: Tensor) -> Tensor:
        """(H, n): saliences of tokens `ids` (H, n), head by head other tokens, from what the heads write."""
        x = self.table.rows(self.layer, ids.flatten()).view(*ids.shape, -1)
        return self.heads.written(x).norm(dim=-1) / x.norm(dim=-1).clamp_min(1e-30)

    def written_by_all(self, ids: Tensor) -> Tensor:
        """y (H, n, d): what each head writes when it reads its own tokens `ids` (H, n)."""
        return self.heads.written(self.table.rows(self.layer, ids.flatten()).view(*ids.shape, -1))

    def written(self, head: int, ids: Tensor) -> Tensor:
        """y (n, d): what `head` writes when it reads each of the tokens `ids`."""
        return self.heads.read(self.table.rows(self.layer, ids), head) @ self.heads.output[head]

    def mean_written(self, ids: Tensor) -> Tensor:
        """(H, d): the mean of what each head writes over the tokens `ids` (n,)."""
        a, _ = self.values(ids)
        return torch.einsum("hk,hkd->hd", a.mean(dim=0).repeat_interleave(self.heads.group, 0), self.heads.output)

    def exact_values(self, ids: Tensor) -> Tensor:
        """a (n, K, d_h) of float64 on the processor, for entries that float32 cannot tell apart."""
        return self.heads.double().values(self.table.rows(self.layer, ids).cpu().double())

    def entries(self, head: int, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """(n, m): M[s, t] for every source and target."""
        return self.written(head, source_ids) @ self.unembedding.rows(target_ids).T


def written_norms(a: Tensor, factors: Tensor, group: int) -> Tensor:
    """||a W_O|| (n, H) from a (n, K, d_h) and the factors R^T (K, d_h, group * r)."""
    t = torch.bmm(a.transpose(0, 1), factors)  # (K, n, group * r)
    norms = torch.linalg.vector_norm(t.unflatten(-1, (group, -1)), dim=-1).float()  # summed in float32 either way
    return norms.transpose(0, 1).flatten(1)


def open_circuit(
    weights: ModelWeights, layer: int, *, table: Sources, unembedding: UnembeddingTable, folding: Folding
) -> OVCircuit:
    """The circuit of `layer`; reads only this layer's W_V and W_O."""
    return OVCircuit(layer=layer, heads=folding.heads(weights, layer), table=table, unembedding=unembedding)
