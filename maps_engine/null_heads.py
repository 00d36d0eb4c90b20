"""Heads that do nothing in particular: every rate at which heads are named is held against theirs.

Each layer keeps X, U and the norms, and the spectrum of every head's W_V W_O, but what its value heads read from and
what its heads write to are turned at random: W_V = Q R becomes F R with F a random orthonormal frame of Q's size, and
W_O^T likewise. Heads of one layer are turned together, so that they stay to each other as they were (docs/method.md,
"Null heads").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maps_engine.model import AttentionWeights, Checkpoint


@dataclass
class NullWeights:
    """A model's weights with the OV circuits of all heads turned at random; all else is passed through."""

    weights: Any
    seed: int

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


def null_checkpoint(checkpoint: Checkpoint, *, seed: int = 0) -> Checkpoint:
    """`checkpoint` with null heads, for use in memory: X is the real model's, so the fingerprint is kept.

    What is made of it must not be stored under that fingerprint.
    """
    weights = NullWeights(checkpoint.weights, seed)
    return replace(checkpoint, name=f"{checkpoint.name}, null heads", weights=weights)


def _turned(matrix: Tensor, chance: torch.Generator) -> Tensor:
    """(d, n) with its columns in a random subspace of as many dimensions, lengths and angles between them kept."""
    triangle = torch.linalg.qr(matrix.float(), mode="r").R  # (min(d, n), n)
    frame = torch.linalg.qr(torch.randn(matrix.shape[0], triangle.shape[0], generator=chance)).Q
    return (frame.to(matrix.device) @ triangle).to(matrix.dtype)
