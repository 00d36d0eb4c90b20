"""Reads matrices, biases and norms of blocks in one convention, whatever layout the checkpoint has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from maps_engine.checkpoints.families.record import HeadNorms, Linear
from maps_engine.checkpoints.families.settings import Settings
from maps_engine.checkpoints.formats.tensor_source import Rows, TensorSource
from maps_engine.checkpoints.tensor_names import TensorNames
from maps_engine.model import ModelShape, Norm

Role = Literal["query", "key", "value"]
_IN_ORDER: tuple[Role, ...] = ("query", "key", "value")  # of a fused matrix


@dataclass(frozen=True)
class BlockReader:
    """Tensors by role, on `device` in `dtype`, nothing kept."""

    settings: Settings
    names: TensorNames
    source: TensorSource
    shape: ModelShape
    device: torch.device
    dtype: torch.dtype

    def rows(self, name: str, rows: Rows) -> Tensor:
        """Rows of a tensor given by its full name."""
        return self.place(self.source.read_rows(name, rows))

    def matrix(self, name: str) -> Tensor:
        """The matrix (out, in) of the linear layer `name` (full, without ".weight")."""
        matrix = self.place(self.source.read(f"{name}.weight"))
        return matrix.T if self.settings.family.input_by_output else matrix

    def linear(self, layer: int, part: Linear) -> tuple[Tensor, Tensor | None]:
        """Matrix (out, in) and bias (out) of a linear layer of a block."""
        return self.matrix(self.names.in_block(layer, part.name)), self.bias(layer, part)

    def bias(self, layer: int, part: Linear) -> Tensor | None:
        """Bias (out) of a linear layer of a block; None where it has none."""
        if not self.settings.flag(part.bias):
            return None
        return self.place(self.source.read(self.names.in_block(layer, f"{part.name}.bias")))

    def value(self, layer: int) -> tuple[Tensor, Tensor | None]:
        """W_V as (K d_h, d) and its bias (K d_h), cut out of a fused layout where there is one."""
        record = self.settings.family
        if record.fused_qkv == "no":
            return self.linear(layer, record.value)
        rows, bias = self._fused_rows("value"), self.bias(layer, record.value)
        return self._cut(layer, rows), None if bias is None else bias[rows.to(bias.device)]

    def query_or_key(self, layer: int, role: Literal["query", "key"]) -> Tensor:
        """W_Q (H, d, d_h) or W_K (K, d, d_h); of a norm behind it, gain and centring are multiplied in."""
        record, width = self.settings.family, self.shape.d_head
        if record.fused_qkv == "no":
            own = record.query if role == "query" else record.key
            matrix = self.matrix(self.names.in_block(layer, own.name))
        else:
            matrix = self._cut(layer, self._fused_rows(role))
        heads = matrix.reshape(-1, width, self.shape.d_model).transpose(1, 2)
        norms = record.head_norms
        if norms is not None and self.settings.flag(norms.used):
            heads = heads - heads.mean(dim=-1, keepdim=True) if norms.kind == "layer" else heads
            heads = heads * self._head_gains(layer, norms, role, len(heads)).reshape(-1, 1, width)
        return heads.contiguous()

    def norm(self, name: str | None) -> Norm | None:
        """The norm `name` (full, without ".weight"); None for None."""
        if name is None:
            return None
        style = self.settings.family.norm
        gain = self.place(self.source.read(f"{name}.weight")) if style.affine else None
        biased = style.affine and self.settings.flag(style.bias)
        return Norm(
            kind=style.kind,
            gain=gain + 1 if gain is not None and style.plus_one else gain,
            bias=self.place(self.source.read(f"{name}.bias")) if biased else None,
            eps=self.settings.number(style.eps),
        )

    def block_norm(self, layer: int, name: str | None) -> Norm | None:
        """The norm `name` of the block of `layer`; None for None."""
        return self.norm(self.names.in_block(layer, name)) if name else None

    def place(self, tensor: Tensor) -> Tensor:
        return tensor.to(device=self.device, dtype=self.dtype)

    def _cut(self, layer: int, rows: Tensor) -> Tensor:
        """`rows` (n,) of the fused query-key-value matrix of a block, as (n, d)."""
        record = self.settings.family
        name = self.names.in_block(layer, record.value.name)
        return self.matrix(name)[rows] if record.input_by_output else self.rows(f"{name}.weight", rows)

    def _fused_rows(self, role: Role) -> Tensor:
        """Which output rows of a fused query-key-value layer hold the queries, keys or values."""
        shape = self.shape
        n, k = shape.n_heads, shape.n_value_heads
        every = torch.arange((n + 2 * k) * shape.d_head)
        if self.settings.family.fused_qkv == "stacked":
            parts = every.view(1, n + 2 * k, shape.d_head).split([n, k, k], dim=1)
        else:
            parts = every.view(k, n // k + 2, shape.d_head).split([n // k, 1, 1], dim=1)
        return parts[_IN_ORDER.index(role)].flatten()

    def _head_gains(self, layer: int, norms: HeadNorms, role: Literal["query", "key"], n_heads: int) -> Tensor:
        """Gains of a norm on queries or keys: (d_h), or (n_heads d_h) where each head has its own."""
        name = norms.query if role == "query" else norms.key
        heads = range(n_heads) if "{head}" in name else [0]
        full = [self.names.in_block(layer, f"{name.format(head=head)}.weight") for head in heads]
        gains = torch.cat([self.place(self.source.read(one)).flatten() for one in full])
        return gains + 1 if self.settings.family.norm.plus_one else gains
