"""Norm gains and biases folded into the head's matrices, or not; the paper folds nothing (docs/method.md, "The map of
one head").

What is exact: RMSNorm and LayerNorm are a division by one positive number per position (and a centring) followed by
a gain. The division changes no rank within a row of M, so folding keeps it out on the output side; on the input side
rows of X are really divided, since biases are added after it. A post-norm's divisor belongs to the sum of all heads: it
too is one positive number for all of them, so only its gain (and centring) is folded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.model import ModelWeights, Norm


@dataclass(frozen=True)
class HeadMatrices:
    """One layer's heads, ready to multiply: a = x @ value[k] (+ bias[k]), y = a @ output[h]."""

    value: Tensor  # (K, d, d_h)
    value_bias: Tensor | None  # (K, d_h)
    output: Tensor  # (H, d_h, d)

    @property
    def group(self) -> int:
        """Query heads that share one value head."""
        return self.output.shape[0] // self.value.shape[0]

    def double(self) -> HeadMatrices:
        """The same in float64, on the processor: not every accelerator computes in it."""
        bias = None if self.value_bias is None else self.value_bias.cpu().double()
        return HeadMatrices(self.value.cpu().double(), bias, self.output.cpu().double())

    def values(self, x: Tensor) -> Tensor:
        """(n, K, d_h): what each value head reads from rows x (n, d)."""
        k, d, d_h = self.value.shape
        a = (x @ self.value.permute(1, 0, 2).reshape(d, k * d_h)).view(-1, k, d_h)
        return a if self.value_bias is None else a + self.value_bias

    def read(self, x: Tensor, head: int) -> Tensor:
        """(n, d_h): what query head `head` reads from rows x (n, d)."""
        k = head // self.group
        a = x @ self.value[k]
        return a if self.value_bias is None else a + self.value_bias[k]

    def written(self, x: Tensor) -> Tensor:
        """y (H, n, d): what each head writes for rows x (H, n, d) of its own; heads of one value head read at once."""
        k, d, d_h = self.value.shape
        a = x.reshape(k, -1, d) @ self.value
        if self.value_bias is not None:
            a = a + self.value_bias.unsqueeze(1)
        return a.reshape(len(x), -1, d_h) @ self.output


@dataclass(frozen=True)
class Folding:
    """Which parts of the block around a head are put into its matrices."""

    norms: bool = False
    biases: bool = False

    def heads(self, weights: ModelWeights, layer: int) -> HeadMatrices:
        """W_V and W_O of all heads of `layer`, with what this folding asks for."""
        raw = weights.attention(layer)
        value, output, bias = raw.value, raw.output, raw.value_bias
        norm = weights.attention_norm(layer) if self.norms else None
        constant = _plus(bias, _constant(norm, value)) if self.biases else None
        if norm is not None and norm.gain is not None:
            value = norm.gain[None, :, None] * value
        if self.norms:
            output = _through(weights.post_attention_norm(layer), output)
        return HeadMatrices(value=value, value_bias=constant, output=output)

    def unembedding(self, weights: ModelWeights, ids: Tensor | slice) -> Tensor:
        """(n, d): rows of U transposed, behind the final norm where norms are folded."""
        rows = weights.unembedding(ids)
        norm = weights.final_norm() if self.norms else None
        if norm is None:
            return rows
        rows = rows if norm.gain is None else rows * norm.gain
        return rows - rows.mean(-1, keepdim=True) if norm.kind == "layer" else rows


def _constant(norm: Norm | None, value: Tensor) -> Tensor | None:
    """(K, d_h): what the norm's own bias adds to every value."""
    if norm is None or norm.bias is None:
        return None
    return torch.einsum("d,kdh->kh", norm.bias, value)


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _through(norm: Norm | None, output: Tensor) -> Tensor:
    if norm is None:
        return output
    output = output - output.mean(-1, keepdim=True) if norm.kind == "layer" else output
    return output if norm.gain is None else output * norm.gain
