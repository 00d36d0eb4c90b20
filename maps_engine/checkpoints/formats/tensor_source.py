"""What the weights need of a file: names, shapes, and rows without the rest of the tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from maps_engine.errors import BrokenCheckpoint

Rows = Tensor | slice
_T = TypeVar("_T")
# of GGUF files, which keep as tensors what transformers has as a setting: Llama 3.1's and Phi-3's longer contexts
ROTARY_FACTORS, TWO_ROTARY_FACTORS = "rope_freqs.weight", "rope_factors_short.weight"


class TensorSource(Protocol):
    """Named tensors of a checkpoint, on the CPU, in the dtype of the file (dequantised: float32).

    All but `names` raise BrokenCheckpoint for a tensor that is not there.
    """

    def names(self) -> frozenset[str]:
        """Names of all tensors held."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of the axes, without reading the tensor."""

    def read(self, name: str) -> Tensor:
        """The whole tensor."""

    def read_rows(self, name: str, rows: Rows) -> Tensor:
        """Rows (of the first axis) by slice or by a tensor of indices; the rest is not touched."""


class JoinedSource:
    """Several sources seen as one: the shards of a checkpoint."""

    def __init__(self, parts: Sequence[TensorSource]) -> None:
        self._owner: Mapping[str, TensorSource] = {name: part for part in parts for name in part.names()}

    def names(self) -> frozenset[str]:
        return frozenset(self._owner)

    def shape(self, name: str) -> tuple[int, ...]:
        return owner_of(self._owner, name).shape(name)

    def read(self, name: str) -> Tensor:
        return owner_of(self._owner, name).read(name)

    def read_rows(self, name: str, rows: Rows) -> Tensor:
        return owner_of(self._owner, name).read_rows(name, rows)


class RenamedSource:
    """A source under other names; names that the inner source does not hold are left out."""

    def __init__(self, inner: TensorSource, inner_name: Mapping[str, str]) -> None:
        held = inner.names()
        self._inner = inner
        self._inner_name = {name: old for name, old in inner_name.items() if old in held}

    def names(self) -> frozenset[str]:
        return frozenset(self._inner_name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._inner.shape(owner_of(self._inner_name, name))

    def read(self, name: str) -> Tensor:
        return self._inner.read(owner_of(self._inner_name, name))

    def read_rows(self, name: str, rows: Rows) -> Tensor:
        return self._inner.read_rows(owner_of(self._inner_name, name), rows)


def owner_of(table: Mapping[str, _T], name: str) -> _T:
    """The entry of `name`, or BrokenCheckpoint naming what is missing."""
    try:
        return table[name]
    except KeyError:
        raise missing_tensors([name]) from None


def missing_tensors(names: Iterable[str]) -> BrokenCheckpoint:
    """The error for tensors that the architecture needs and the files lack."""
    wanted = list(names)
    shown = ", ".join(wanted[:6]) + (f" and {len(wanted) - 6} more" if len(wanted) > 6 else "")
    return BrokenCheckpoint(
        f"the checkpoint lacks {len(wanted)} tensor{'s' if len(wanted) > 1 else ''} that its architecture needs",
        got=f"no {shown}",
        next_step="Fetch the whole checkpoint again.",
    )


def row_indices(rows: Rows, n_rows: int) -> Tensor:
    """The rows as a tensor of indices, for sources that gather."""
    if isinstance(rows, slice):
        return torch.arange(*rows.indices(n_rows))
    return rows.to(device="cpu", dtype=torch.long)
