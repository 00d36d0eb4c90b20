"""Whole texts through the blocks of a model, block by block; how far back a token sees may be limited.

The attention of each layer is the model's own. What a limit takes away is hidden from it by its mask: keys that the
layer would not see anyway (later ones, those beyond a sliding window) stay hidden.
"""

from __future__ import annotations

import inspect
from dataclasses import replace

import torch
from torch import Tensor, nn

from maps_engine.checkpoints.blocks.residual_stream import BlockModel, Call
from maps_engine.errors import UnsupportedModel

MASK = "attention_mask"  # as transformers' blocks name it


class TextStream:
    """Hidden states of texts in front of the block `layer`, which counts up with every `advance`."""

    rows: Tensor
    """(b, n, d): the residual stream that the block `layer` is given."""

    def __init__(self, model: BlockModel, ids: Tensor, *, start: int, sees: int | None) -> None:
        """`ids` (b, n): the texts. A token sees their first `start` tokens, itself and the `sees` tokens before it; all
        that the model lets it see where `sees` is None."""
        self._model, self.layer = model, 0
        with torch.no_grad():
            hidden, self._calls = model.enter(ids, behind=0)
        self.rows = hidden.clone()
        self._unseen = None if sees is None else _unseen(ids.shape[1], start, sees).to(ids.device)

    def advance(self) -> None:
        """Let the texts pass the block `layer`."""
        with torch.no_grad(), self._model.empty.filled(self.layer) as block:
            call = self._calls[self.layer]
            call = call if self._unseen is None else _hiding(call, self._unseen, block)
            self.rows = self._model.run(block, self.rows, call, layer=self.layer, before=None).hidden
        self.layer += 1


def _unseen(n: int, start: int, sees: int) -> Tensor:
    """(n, n): which keys (columns) a token (row) does not see."""
    rows, columns = torch.arange(n).unsqueeze(1), torch.arange(n)
    return (columns > rows) | ((columns >= start) & (rows - columns > sees))


def _hiding(call: Call, unseen: Tensor, block: nn.Module) -> Call:
    """The same call, in which the mask hides the keys `unseen` as well. Raises UnsupportedModel."""
    names = list(inspect.signature(block.forward).parameters)[1:]  # hidden states come first
    if MASK not in names:
        raise UnsupportedModel("the mask of this model's attention is not known", got=type(block).__name__)
    place = names.index(MASK)
    if place < len(call.positional):
        mask = _hidden(call.positional[place], unseen, call.hidden.dtype)
        return replace(call, positional=(*call.positional[:place], mask, *call.positional[place + 1 :]))
    return replace(call, named={**call.named, MASK: _hidden(call.named.get(MASK), unseen, call.hidden.dtype)})


def _hidden(mask: Tensor | None, unseen: Tensor, dtype: torch.dtype) -> Tensor:
    """Masks are True where a key is seen, or added to logits; None hides later keys alone."""
    if mask is None:
        mask = torch.zeros(1, 1, *unseen.shape, dtype=dtype, device=unseen.device)
    if mask.dtype == torch.bool:
        return mask & ~unseen
    return mask.masked_fill(unseen, torch.finfo(mask.dtype).min)
