"""Block 0 computed on one-token sequences: what a bare token looks like to later layers.

A lone token attends to itself with weight 1, so the attention is the linear map x W_V W_O, whatever its
queries and keys. Position embeddings are left out by definition.
"""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from maps_engine.checkpoints.block_reader import BlockReader
from maps_engine.checkpoints.families.record import Mlp
from maps_engine.checkpoints.products import linear
from maps_engine.model import Norm


class FirstBlock:
    """Holds the tensors of block 0 once read; the attention's only if `__call__` is used."""

    def __init__(self, reader: BlockReader, mlp: Mlp) -> None:
        record = reader.settings.family
        self._reader, self._record = reader, record
        self._fused = mlp.fused
        self._up, self._down = _contiguous(reader.linear(0, mlp.up)), _contiguous(reader.linear(0, mlp.down))
        self._gate = _contiguous(reader.linear(0, mlp.gate)) if mlp.gate else None
        self._activation = reader.settings.activation
        after_residual = record.flow == "norm-after-residual"
        self._norm2 = reader.block_norm(0, record.attention_norm if after_residual else record.mlp_norm)
        self._post2 = reader.block_norm(0, record.post_mlp_norm)

    def first_mlp(self, x: Tensor) -> Tensor:
        """(n, d) -> (n, d): the MLP on the norm that it really reads through, no residual, no post-norm."""
        return self._mlp(_through(self._norm2, x))

    def __call__(self, x: Tensor) -> Tensor:
        """(n, d) -> (n, d): the block's output."""
        norm1, post1 = self._attention_norms
        if self._record.flow == "parallel":
            return x + self._attention(_through(norm1, x)) + self.first_mlp(x)
        if self._record.flow == "norm-after-residual":
            h = _through(norm1, x + self._attention(x))
            return _through(self._last_norm, h + self._mlp(h))
        h = x + _through(post1, self._attention(_through(norm1, x)))
        return h + _through(self._post2, self.first_mlp(h))

    def _mlp(self, x: Tensor) -> Tensor:
        up = linear(x, *self._up)
        if self._fused:
            gate, up = up.chunk(2, dim=-1)
            return linear(self._activation(gate).mul_(up), *self._down)
        if self._gate is not None:
            return linear(self._activation(linear(x, *self._gate)).mul_(up), *self._down)
        return linear(self._activation(up), *self._down)

    def _attention(self, x: Tensor) -> Tensor:
        shape = self._reader.shape
        (value, value_bias), (output, output_bias) = self._attention_tensors
        per_value_head = linear(x, value, value_bias).reshape(-1, shape.n_value_heads, shape.d_head)
        per_head = per_value_head.repeat_interleave(shape.n_heads // shape.n_value_heads, dim=1)
        return linear(per_head.flatten(1), output, output_bias)

    @cached_property
    def _attention_tensors(self) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]:
        return self._reader.value(0), self._reader.linear(0, self._record.output)

    @cached_property
    def _attention_norms(self) -> tuple[Norm | None, Norm | None]:
        record = self._record
        return self._reader.block_norm(0, record.attention_norm), self._reader.block_norm(0, record.post_attention_norm)

    @cached_property
    def _last_norm(self) -> Norm | None:
        return self._reader.block_norm(0, self._record.mlp_norm)


def _contiguous(part: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Matrix and bias with the matrix laid out as it is read: it is read for every chunk of the vocabulary."""
    return part[0].contiguous(), part[1]


def _through(norm: Norm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)
