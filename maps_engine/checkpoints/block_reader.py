"""Reads matrices, biases and norms of blocks in one convention, whatever layout the checkpoint has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.checkpoints.families.record import Linear
from maps_engine.checkpoints.families.settings import Settings
from maps_engine.checkpoints.formats.tensor_source import Rows, TensorSource
from maps_engine.checkpoints.tensor_names import TensorNames
from maps_engine.model import ModelShape, Norm


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
        rows, bias = self._value_rows(), self.bias(layer, record.value)
        name = self.names.in_block(layer, record.value.name)
        matrix = self.matrix(name)[rows] if record.input_by_output else self.rows(f"{name}.weight", rows)
        return matrix, None if bias is None else bias[rows.to(bias.device)]

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

    def _value_rows(self) -> Tensor:
        """Which output rows of a fused query-key-value layer hold the values."""
        shape = self.shape
        n_values = shape.n_value_heads * shape.d_head
        if self.settings.family.fused_qkv == "stacked":
            return torch.arange(n_values) + (shape.n_heads + shape.n_value_heads) * shape.d_head
        per_group = shape.n_heads // shape.n_value_heads + 2
        every = torch.arange(shape.n_value_heads * per_group * shape.d_head)
        return every.reshape(shape.n_value_heads, per_group, shape.d_head)[:, -1].reshape(n_values)
