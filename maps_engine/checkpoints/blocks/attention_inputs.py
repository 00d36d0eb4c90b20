"""Queries and keys of a block as its own attention computes them: norms, biases, positions and all.

transformers' attention modules give queries and keys, positions put in, to an exchangeable function, with the scale,
the soft cap, the sinks and the mask of the layer. Ours writes down what it is given and stops there, so that neither
the softmax nor the MLP is computed. Four older architectures do not use that function: their product of queries and
keys is caught instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from maps_engine.checkpoints.block_reader import BlockReader
from maps_engine.checkpoints.blocks.residual_stream import BlockModel, Call
from maps_engine.errors import UnsupportedModel
from maps_engine.model import QueriesKeys

NAME = "headscribe_queries_keys"  # of our attention function
FORMS = 16  # of texts whose masks and angles are kept for the next layer


class AttentionInputs:
    """Reads queries and keys of the blocks of one checkpoint. Raises UnsupportedModel as `EmptyModel`."""

    def __init__(self, reader: BlockReader) -> None:
        self._model = BlockModel(reader)
        _register()
        self._calls_ours = hasattr(sys.modules[type(self._model.empty.blocks[0]).__module__], "ALL_ATTENTION_FUNCTIONS")
        if self._calls_ours:
            self._model.empty.config._attn_implementation = NAME
        self._calls: dict[tuple[int, ...], list[Call]] = {}

    def read(self, layer: int, hidden: Tensor, *, behind: int = 0) -> QueriesKeys:
        """Of rows (b, n, d) that reach the block, at places `behind`, `behind` + 1, ... of a text.

        Raises UnsupportedModel where the block's attention is not understood.
        """
        call = self._call(layer, torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device), behind)
        with torch.no_grad(), self._model.empty.filled(layer, attention_only=True) as block:
            try:
                with nullcontext() if self._calls_ours else _FirstProduct(block):
                    self._model.run(block, hidden, call, layer=layer, before=None)
            except _Caught as caught:
                return caught.found
        raise UnsupportedModel("queries and keys of this model cannot be read", got=type(block).__name__)

    def _call(self, layer: int, ids: Tensor, behind: int) -> Call:
        """How the decoder calls its blocks for texts of the form (b, n) of `ids`; the tokens do not matter."""
        form = (*ids.shape, behind)
        if form not in self._calls:
            if len(self._calls) == FORMS:
                self._calls.pop(next(iter(self._calls)))
            self._calls[form] = self._model.enter(ids, behind=behind)[1]
        return self._calls[form][layer]


class _Caught(Exception):
    def __init__(self, found: QueriesKeys) -> None:
        super().__init__()
        self.found = found


def _catch(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> NoReturn:
    """The attention function that transformers' modules call."""
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    raise _Caught(QueriesKeys(query, key, scale, softcap, s_aux, _added(attention_mask, key)))


def _added(mask: Tensor | None, key: Tensor) -> Tensor | None:
    """What a mask adds for the last keys (1 or b, 1 or H, 1 or n, m); -inf where a key may not be seen."""
    if mask is None:
        return None
    own = mask[..., -key.shape[-2] :]
    added = torch.zeros_like(own, dtype=key.dtype).masked_fill(~own, -torch.inf) if own.dtype == torch.bool else own
    return added.masked_fill(added <= torch.finfo(added.dtype).min / 2, -torch.inf)


class _FirstProduct(TorchFunctionMode):
    """Catches the first product of queries and keys in a block that does not call an attention function."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._attention = next(m for m in block.modules() if hasattr(m, "num_heads") or hasattr(m, "head_dim"))
        self._heads = int(getattr(self._attention, "num_heads", 0))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, key, value = args[:3]
            _catch(self._attention, query, key, value, given.get("attn_mask"), scaling=given.get("scale"))
        if func is torch.Tensor.baddbmm:
            self._catch_biased(args[0], **given)
        if func is torch.matmul and args[0].dim() == 4:
            scale = 1 / float(getattr(self._attention, "scale_attn", 1.0))
            _catch(self._attention, args[0], args[1].transpose(-1, -2), args[1], self._local(args[0]), scaling=scale)
        return func(*args, **given)

    def _catch_biased(self, bias: Tensor, batch1: Tensor, batch2: Tensor, beta: float, alpha: float) -> NoReturn:
        """Bloom: heads in one dimension with texts, and ALiBi (b H, 1, m) added to the product."""
        query, key = (one.unflatten(0, (-1, self._heads)) for one in (batch1, batch2.transpose(-1, -2)))
        _catch(self._attention, query, key, key, beta * bias.unflatten(0, (-1, self._heads)), scaling=alpha)

    def _local(self, query: Tensor) -> Tensor | None:
        """GPT-Neo keeps which keys a query sees in a buffer of truth values, with the window of a local layer."""
        seen = getattr(self._attention, "bias", None)
        n = query.shape[-2]
        return seen[:, :, :n, :n] if isinstance(seen, Tensor) and seen.dtype == torch.bool else None


def _register() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, _catch)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
