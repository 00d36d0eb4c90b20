"""The MLP of block 0 on bare tokens: what the paper gives heads of later layers to read."""

from __future__ import annotations

from torch import Tensor

from maps_engine.checkpoints.block_reader import BlockReader
from maps_engine.checkpoints.families.record import Mlp
from maps_engine.checkpoints.products import linear


class FirstMlp:
    """Holds the MLP's tensors once read: every chunk of the vocabulary goes through it."""

    def __init__(self, reader: BlockReader, mlp: Mlp) -> None:
        record = reader.settings.family
        self._fused = mlp.fused
        self._up, self._down = _contiguous(reader.linear(0, mlp.up)), _contiguous(reader.linear(0, mlp.down))
        self._gate = _contiguous(reader.linear(0, mlp.gate)) if mlp.gate else None
        self._activation = reader.settings.activation
        after_residual = record.flow == "norm-after-residual"
        self._norm = reader.block_norm(0, record.attention_norm if after_residual else record.mlp_norm)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, d) -> (n, d): the MLP on the norm that it really reads through, no residual, no post-norm."""
        x = x if self._norm is None else self._norm(x)
        up = linear(x, *self._up)
        if self._fused:
            gate, up = up.chunk(2, dim=-1)
            return linear(self._activation(gate).mul_(up), *self._down)
        if self._gate is not None:
            return linear(self._activation(linear(x, *self._gate)).mul_(up), *self._down)
        return linear(self._activation(up), *self._down)


def _contiguous(part: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Matrix and bias with the matrix laid out as it is read: it is read for every chunk of the vocabulary."""
    return part[0].contiguous(), part[1]
