"""Puts a GGUF file's tensors back into the layout that transformers' checkpoints have.

llama.cpp's converter adds the 1 to Gemma's norm gains, transposes GPT-2's matrices, sorts Falcon's fused rows into
[Q; K; V], and interleaves the two rotary halves of Llama's queries and keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.checkpoints.formats.tensor_source import RenamedSource, Rows

_GPT2_MATRICES = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
_GAINS = re.compile(r"norm\.weight$")


@dataclass(frozen=True)
class Layout:
    """What the converter changed, for one architecture."""

    adds_one_to_gains: bool = False
    transposes: bool = False
    sorts_qkv: bool = False
    interleaves_rotary: bool = False


class RestoredSource:
    """A `TensorSource` over a GGUF file under transformers' names, every tensor as transformers has it."""

    def __init__(self, inner: RenamedSource, layout: Layout, *, heads: int, value_heads: int) -> None:
        self._inner, self._layout = inner, layout
        self._heads, self._value_heads = heads, value_heads

    def names(self) -> frozenset[str]:
        return self._inner.names()

    def shape(self, name: str) -> tuple[int, ...]:
        found = self._inner.shape(name)
        return found[::-1] if self._is_transposed(name) else found

    def read(self, name: str) -> Tensor:
        tensor = self._inner.read(name)
        change = self._change(name)
        return tensor if change is None else change(tensor)

    def read_rows(self, name: str, rows: Rows) -> Tensor:
        return self._inner.read_rows(name, rows) if self._change(name) is None else self.read(name)[rows]

    def _is_transposed(self, name: str) -> bool:
        return self._layout.transposes and _GPT2_MATRICES.search(name) is not None

    def _change(self, name: str) -> Callable[[Tensor], Tensor] | None:
        layout, part = self._layout, name.split(".")[-2] if "." in name else ""
        if self._is_transposed(name):
            return lambda tensor: tensor.T
        if layout.adds_one_to_gains and _GAINS.search(name):
            return lambda tensor: tensor - 1
        if layout.sorts_qkv and part == "query_key_value":
            return self._by_group
        if layout.interleaves_rotary and part in ("q_proj", "k_proj"):
            heads = self._heads if part == "q_proj" else self._value_heads
            return lambda tensor: _halves(tensor, heads)
        return None

    def _by_group(self, tensor: Tensor) -> Tensor:
        """[Q; K; V] as, for each value head, its queries, its key and its value."""
        groups = self._value_heads
        whole = tensor.reshape(self._heads + 2 * groups, -1, *tensor.shape[1:])
        queries, keys, values = whole.split([self._heads, groups, groups])
        parts = (queries.unflatten(0, (groups, -1)), keys.unsqueeze(1), values.unsqueeze(1))
        return torch.cat(parts, dim=1).reshape(tensor.shape)


def _halves(tensor: Tensor, heads: int) -> Tensor:
    """Rows of pairs of rotary dimensions as two halves, head by head."""
    return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(tensor.shape)
