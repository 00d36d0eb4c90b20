"""What a head is given to read: the source representation X of every token (docs/method.md, "Source representations").

embedding     X = E: the vector that enters block 0.
first-mlp     X = MLP_0(norm2_0(E)), without the residual: the paper's choice for layers >= 1. Layer 0 reads E.
residual      X = what reaches the layer behind the start of a text: `residuals.ResidualTable`.

Rows are made on demand, so one head of a large checkpoint never needs more than a chunk of X at a time;
`SourceTable.hold()` computes them once for a run over all heads. Cost of `first-mlp`: one MLP pass over V tokens.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from maps_engine.errors import UserMistake
from maps_engine.model import ModelWeights, Norm

SourceName = Literal["residual", "first-mlp", "embedding"]
SOURCE_NAMES: tuple[str, ...] = get_args(SourceName)
CHUNK = 4096


def check_source_name(name: str) -> None:
    """Raise UserMistake unless `name` is a source representation."""
    if name not in SOURCE_NAMES:
        raise UserMistake("unknown source representation", got=name, expected=", ".join(("auto", *SOURCE_NAMES)))


def standardised(x: Tensor, norm: Norm) -> Tensor:
    """x (n, d) as `norm` leaves it before its gain and bias."""
    return Norm(kind=norm.kind, gain=None, bias=None, eps=norm.eps)(x)


class Sources(Protocol):
    """Rows of X for any layer, whatever the representation."""

    @property
    def weights(self) -> ModelWeights:
        """The model."""

    def rows(self, layer: int, ids: Tensor | slice) -> Tensor:
        """(n, d): X of the tokens `ids` as heads of `layer` read them."""

    def hold(self, layer: int) -> Tensor:
        """(V, d): all rows for `layer`, kept in memory."""

    def is_stored(self, layer: int) -> bool:
        """Whether X of `layer` is E as it stands in the checkpoint, which costs little to read again."""

    def version(self, layer: int) -> int:
        """Layers of equal version have the same X."""


class SourceTable:
    """Rows of X that are the same for all layers, or all but the first.

    With `standardise` (folded norms) rows are divided, and centred where the model's norm centres, as the
    attention's norm does; its gain lives in W_V (see `folding`).
    """

    def __init__(
        self,
        weights: ModelWeights,
        name: str,
        *,
        first_mlp_in_layer_0: bool = False,
        standardise: bool = False,
    ) -> None:
        check_source_name(name)
        self._weights, self.name = weights, name
        self.layer_0_reads_embedding = name == "embedding" or not first_mlp_in_layer_0
        self._norm = weights.attention_norm(0) if standardise else None
        self._held: dict[bool, Tensor] = {}

    @property
    def weights(self) -> ModelWeights:
        return self._weights

    def rows(self, layer: int, ids: Tensor | slice) -> Tensor:
        """(n, d): X of the tokens `ids` as heads of `layer` read them."""
        plain = self._is_embedding(layer)
        if plain in self._held:
            return self._held[plain][ids]
        return self._compute(plain, ids)

    def hold(self, layer: int) -> Tensor:
        """(V, d): all rows for `layer`, computed once and kept."""
        plain = self._is_embedding(layer)
        if plain not in self._held:
            self._held[plain] = self._all_rows(plain)
        return self._held[plain]

    def is_stored(self, layer: int) -> bool:
        """Whether X of `layer` is E as it stands in the checkpoint, which costs little to read again."""
        return self._is_embedding(layer)

    def version(self, layer: int) -> int:
        """Layers of equal version have the same X."""
        return int(self._is_embedding(layer))

    def _is_embedding(self, layer: int) -> bool:
        return self.name == "embedding" or (layer == 0 and self.layer_0_reads_embedding)

    def _all_rows(self, plain: bool) -> Tensor:
        size, width = self.weights.shape.vocab_size, self.weights.shape.d_model
        table = torch.empty(size, width, dtype=self.weights.dtype, device=self.weights.device)
        for start in range(0, size, CHUNK):
            part = slice(start, min(start + CHUNK, size))
            table[part] = self._compute(plain, part)
        return table

    def _compute(self, plain: bool, ids: Tensor | slice) -> Tensor:
        x = self.weights.embedding(ids)
        if not plain:
            x = self.weights.first_mlp(x)
        return x if self._norm is None else standardised(x, self._norm)
