"""What the experiments need of a model that runs, as a Protocol.

A head's part of the attention's output is z_h W_O[h]: z_h is its slice of what enters the output projection, the
attention-weighted sum of values. "Without context" the last position's attention is 1 on the source s and every other
activation is as in the clean run. Values at s are made from the clean residual at s, so the head then gives exactly
v_s W_O[h], and v_s is read off the clean run: one forward pass serves all heads in both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from maps_engine.model import ModelShape


@dataclass(frozen=True)
class HeadStates:
    """What heads hold for n prompts, before W_O; float32."""

    mixed: Tensor  # (L, n, H, d_h): z at the last position, "with context"
    values: Tensor  # (L, n, K, d_h): v at the source position, "without context"


@dataclass(frozen=True)
class Ablation:
    """Heads whose output at the last position is replaced; without `replacement` by zero."""

    heads: Mapping[int, Sequence[int]] = field(default_factory=dict)  # layer -> heads
    replacement: Tensor | None = None  # (L, H, d_h): z to put there instead


class RunningModel(Protocol):
    """A model that runs; ids are (n, T), all prompts of one length, so that nothing is padded."""

    @property
    def shape(self) -> ModelShape: ...

    def head_states(self, ids: Tensor, source: int) -> HeadStates:
        """z of the last position and v of position `source` in the clean run."""

    def predictions(self, ids: Tensor, ablations: Sequence[Ablation]) -> Tensor:
        """(A, n): the most likely next token under each ablation."""

    def logits_after(self, ids: Tensor, layer: int, added: Tensor) -> Tensor:
        """(m, V), float32: final logits of one prompt, ids (T,), once for each row of `added` (m, d).

        The row is added to what the attention of `layer` gives at the last position, before any norm behind it.
        """

    def attention_weights(self, ids: Tensor) -> tuple[Tensor, ...]:
        """(n, H, T, T) of each layer: attention from positions (rows) to positions (columns)."""
