"""Many tokens through the blocks of a model at once, each as if the model had read a lead-in and then this token.

The lead-in is read once a block; its keys and values are kept while all tokens pass that block, as in generation. So
the vocabulary streams through one block at a time: one block's weights, one slab of hidden states and one batch's
intermediate results are in memory. Cost: about 2 n P operations for n tokens and P parameters of the blocks.

All batches have one size, the last one filled up with its last token: products of one shape sum in one order, so that
the row of a token does not depend on the tokens that are asked for beside it, to the last bit. Only in a mixture of
experts may it differ in its last bits, where the company decides how many tokens an expert is given.

What a decoder hands to its blocks besides hidden states (masks, rotary angles, ALiBi) is the same for every batch of
one size. It is recorded by letting the decoder call recorders in place of its blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maps_engine.checkpoints.block_reader import BlockReader
from maps_engine.checkpoints.blocks.empty_model import EmptyModel
from maps_engine.errors import UnsupportedModel

BATCH = 256  # tokens that pass a block together


class BlockModel:
    """The blocks of one checkpoint, ready to be run one after the other."""

    def __init__(self, reader: BlockReader) -> None:
        self._reader, self.empty = reader, EmptyModel(reader)
        self.empty.embeddings.padding_idx = None  # ids are places among the rows of a call, not tokens
        self._log: list[Call] = []
        last = len(self.empty.blocks) - 1
        self._recorders = [_Recorder(self._log, is_last=i == last) for i in range(last + 1)]
        self.empty.replace_blocks(nn.ModuleList(self._recorders))

    def enter(self, ids: Tensor, *, behind: int) -> tuple[Tensor, list[Call]]:
        """What reaches block 0 (b, n, d) for token ids (b, n) behind `behind` others, and how each block is called.

        Raises UnsupportedModel where the model has a table of fewer places.
        """
        self._check_places(behind + ids.shape[1])
        rows = self._reader.rows(self._reader.names.embedding, ids.flatten())
        self.empty.embeddings.weight = nn.Parameter(rows, requires_grad=False)  # so that no more of E is read
        places = torch.arange(ids.numel(), device=rows.device).view(ids.shape)
        cache = self._cache()
        if behind:
            nothing = torch.empty(len(ids), 1, behind, 1, device="meta")  # only lengths are asked for here
            for layer in range(len(self.empty.blocks)):
                cache.update(nothing, nothing, layer)
        self._log.clear()
        try:
            self.empty.decoder(input_ids=places, past_key_values=cache, use_cache=True)
        except _TupleWanted:
            for recorder in self._recorders:
                recorder.gives_tuple = True
            return self.enter(ids, behind=behind)
        except _AllRecorded:
            pass
        return self._log[0].hidden, list(self._log)

    def _check_places(self, wanted: int) -> None:
        tables = sum(isinstance(one, nn.Embedding) for one in self.empty.decoder.children())  # of tokens, and of places
        angles = any(hasattr(one, "embed_positions") for one in self.empty.blocks[0].modules())  # GPT-J's table of them
        most = int(getattr(self.empty.config, "max_position_embeddings", wanted))
        if (tables > 1 or angles) and wanted > most:
            got, expected = f"{most} places", f"at least {wanted}"
            raise UnsupportedModel("this model has too few places to read texts", got=got, expected=expected)

    def run(self, block: nn.Module, hidden: Tensor, call: Call, *, layer: int, before: _Keys | None) -> _After:
        """`hidden` (b, n, d) through one block, with keys and values of what comes `before`."""
        cache = self._cache()
        if before is not None:
            cache.update(*(one.expand(len(hidden), *one.shape[1:]) for one in (before.keys, before.values)), layer)
        out = block(hidden, *call.args(cache), **call.options(cache))
        held = cache.layers[layer]
        return _After(out[0] if isinstance(out, tuple) else out, _Keys(held.keys, held.values))

    def _cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.empty.config)


class ResidualStream:
    """Hidden states of tokens in front of the block `layer`, which counts up with every `advance`."""

    def __init__(self, model: BlockModel, ids: Tensor, lead_in: Sequence[int]) -> None:
        """`ids` (n,): the tokens. `lead_in`: ids that every one of them is read after; at least one."""
        self._model, self.layer = model, 0
        with torch.no_grad():
            start = torch.tensor([list(lead_in)], device=ids.device)
            self._lead, self._lead_calls = model.enter(start, behind=0)
            self._n = len(ids)
            filled = torch.cat([ids, ids[-1:].expand(-len(ids) % BATCH)])
            self._hidden = self._lead.new_empty(len(filled), 1, self._lead.shape[-1])
            for place in range(0, len(filled), BATCH):
                part = filled[place : place + BATCH].unsqueeze(-1)
                self._hidden[place : place + BATCH], self._calls = model.enter(part, behind=len(lead_in))

    @property
    def rows(self) -> Tensor:
        """(n, d): the residual stream that the block `layer` is given. Overwritten by `advance`."""
        return self._hidden[: self._n, 0]

    @property
    def start(self) -> Tensor:
        """(s, d): the same of the lead-in's own tokens."""
        return self._lead[0]

    def advance(self) -> None:
        """Let everything pass the block `layer`."""
        layer = self.layer
        with torch.no_grad(), self._model.empty.filled(layer) as block:
            lead = self._model.run(block, self._lead, self._lead_calls[layer], layer=layer, before=None)
            for start in range(0, len(self._hidden), BATCH):
                part = self._hidden[start : start + BATCH]
                part.copy_(self._model.run(block, part, self._calls[layer], layer=layer, before=lead.keys).hidden)
            self._lead = lead.hidden
        self.layer += 1


@dataclass(frozen=True)
class _Keys:
    """Keys and values (1, K, n, d_h) of one block."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class _After:
    hidden: Tensor
    keys: _Keys


@dataclass(frozen=True)
class Call:
    """What a decoder called a block with."""

    hidden: Tensor
    positional: tuple[Any, ...]
    named: dict[str, Any]

    def args(self, cache: Any) -> list[Any]:
        """The same positional arguments, with another cache."""
        return [cache if isinstance(value, type(cache)) else value for value in self.positional]

    def options(self, cache: Any) -> dict[str, Any]:
        """The same named arguments, with another cache."""
        return {name: cache if isinstance(value, type(cache)) else value for name, value in self.named.items()}


class _AllRecorded(Exception):
    """The last block was called: what comes after the blocks is not wanted."""


class _TupleWanted(Exception):
    """The decoder takes the first entry of what a block gives."""


class _Recorder(nn.Module):
    """Stands where a block was and writes down how it is called."""

    def __init__(self, log: list[Call], *, is_last: bool) -> None:
        super().__init__()
        self._log, self._is_last, self.gives_tuple = log, is_last, False

    def forward(self, hidden: Tensor, *args: Any, **options: Any) -> Tensor | tuple[Tensor]:
        if hidden.dim() != 3:  # the decoder took the first entry of the tensor itself
            raise _TupleWanted
        self._log.append(Call(hidden, args, options))
        if self._is_last:
            raise _AllRecorded
        return (hidden,) if self.gives_tuple else hidden
