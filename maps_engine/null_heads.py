"""Heads that do nothing in particular: every rate at which heads are named is held against theirs.

Each layer keeps X, U and the norms, and the spectrum of every head's W_V W_O, but what its value heads read from and
what its heads write to are turned at random: W_V = Q R becomes F R with F a random orthonormal frame of Q's size, and
W_O^T likewise. Heads of one layer are turned together, so that they stay to each other as they were. Queries and keys
are those of a stream that is turned before the layer reads it, each by a rotation of its own: W_Q, W_K keep their
spectra, biases and places (docs/method.md, "Null heads").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maps_engine.model import AttentionWeights, Checkpoint, QueriesKeys

VERSION = 2  # raise when heads are turned in another way
TURNED_APART = 500_009  # added to a layer's seed, so that queries and keys are turned otherwise than W_V and W_O


@dataclass
class NullWeights:
    """A model's weights with what all heads read from and write to turned at random; all else is passed through."""

    weights: Any
    seed: int

    def __post_init__(self) -> None:
        self._layer, self._frames = -1, (torch.empty(0), torch.empty(0))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.weights, name)

    def attention(self, layer: int) -> AttentionWeights:
        """W_V and W_O of the layer, turned; the same for the same seed."""
        real = self.weights.attention(layer)
        chance = torch.Generator().manual_seed(1_000_003 * self.seed + layer)
        n_value, d, d_head = real.value.shape
        n_heads = real.output.shape[0]
        value = _turned(real.value.permute(1, 0, 2).reshape(d, n_value * d_head), chance)
        output = _turned(real.output.permute(2, 0, 1).reshape(d, n_heads * d_head), chance)
        return replace(
            real,
            value=value.view(d, n_value, d_head).permute(1, 0, 2).contiguous(),
            output=output.view(d, n_heads, d_head).permute(1, 2, 0).contiguous(),
        )

    def queries_keys(self, layer: int, hidden: Tensor, *, behind: int = 0) -> QueriesKeys:
        """Queries and keys of the layer, turned; the same for the same seed."""
        turned = (hidden @ frame for frame in self.frames(layer, hidden))
        asking, asked = (self.weights.queries_keys(layer, rows, behind=behind) for rows in turned)
        return replace(asking, keys=asked.keys)

    def frames(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (d, d) of the stream for queries and for keys of the layer; `like` (..., d) has its d and type."""
        if self._layer != layer:  # read_attention asks many times for a layer, and then never again
            chance = torch.Generator().manual_seed(1_000_003 * self.seed + layer + TURNED_APART)
            first, second = (_frame(like.shape[-1], like.shape[-1], chance).to(like) for _ in range(2))
            self._layer, self._frames = layer, (first, second)
        return self._frames


def null_checkpoint(checkpoint: Checkpoint, *, seed: int = 0) -> Checkpoint:
    """`checkpoint` with null heads, for use in memory: X is the real model's, so the fingerprint is kept.

    What is made of it must not be stored under that fingerprint.
    """
    weights = NullWeights(checkpoint.weights, seed)
    return replace(checkpoint, name=f"{checkpoint.name}, null heads", weights=weights)


def _turned(matrix: Tensor, chance: torch.Generator) -> Tensor:
    """(d, n) with its columns in a random subspace of as many dimensions, lengths and angles between them kept."""
    triangle = torch.linalg.qr(matrix.float(), mode="r").R  # (min(d, n), n)
    return (_frame(matrix.shape[0], triangle.shape[0], chance).to(matrix.device) @ triangle).to(matrix.dtype)


def _frame(d: int, n: int, chance: torch.Generator) -> Tensor:
    """(d, n): n random directions at right angles to each other."""
    return torch.linalg.qr(torch.randn(d, n, generator=chance)).Q
