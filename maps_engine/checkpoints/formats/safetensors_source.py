"""Tensors of a .safetensors file through a memory map: rows are views, and only their pages are read.

Pages that were read count as this process's memory until they are given back, which is done every 64 MiB: the
system keeps them in its own cache as long as it likes, and a view that is still in use reads them again from there.

Layout: https://github.com/huggingface/safetensors#format (8 bytes length, a JSON header, raw tensors).
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maps_engine.checkpoints.formats.tensor_source import Rows, owner_of, row_indices
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_HEADER_LIMIT = 100 * 2**20  # the format's own limit
_KEPT_BYTES = 64 * 2**20  # pages read between two give-backs


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


class SafetensorsSource:
    """Reads one file. Raises BrokenCheckpoint when it is truncated or damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _read_header(path)
        with path.open("rb") as file:
            # a private mapping is writable, which torch.frombuffer asks for; nothing is ever written
            self._blob = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._read_bytes = 0

    def names(self) -> frozenset[str]:
        return frozenset(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return owner_of(self._entries, name).shape

    def read(self, name: str) -> Tensor:
        return self._counted(self._view(name))

    def read_rows(self, name: str, rows: Rows) -> Tensor:
        view = self._view(name)
        return self._counted(view[row_indices(rows, len(view))] if isinstance(rows, Tensor) else view[rows])

    def _counted(self, read: Tensor) -> Tensor:
        self._read_bytes += read.nbytes
        if self._read_bytes > _KEPT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._blob.madvise(mmap.MADV_DONTNEED)
            self._read_bytes = 0
        return read

    def _view(self, name: str) -> Tensor:
        entry = owner_of(self._entries, name)
        dtype = _DTYPES.get(entry.kind)
        if dtype is None:
            raise UnsupportedModel(
                f"tensor {name} is stored in a format that is not understood",
                got=entry.kind,
                expected=", ".join(_DTYPES),
                next_step="Use a checkpoint that is not quantised, or a GGUF file.",
            )
        if prod(entry.shape) * dtype.itemsize != entry.end - entry.start:
            raise _damaged(self._path, f"{entry.end - entry.start} bytes for {name} of shape {entry.shape}")
        if not prod(entry.shape):
            return torch.empty(entry.shape, dtype=dtype)
        flat = torch.frombuffer(self._blob, dtype=dtype, count=prod(entry.shape), offset=entry.start)
        return flat.reshape(entry.shape)


def _read_header(path: Path) -> dict[str, _Entry]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise _damaged(path, f"{size} bytes with a header of {length}")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            entries = {name: _entry(fields, 8 + length) for name, fields in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, f"an unreadable header ({error})") from error
    end = max((entry.end for entry in entries.values()), default=0)
    if end > size:
        raise _damaged(path, f"{size} bytes", f"at least {end}")
    return entries


def _entry(fields: dict[str, Any], base: int) -> _Entry:
    start, end = (int(place) for place in fields["data_offsets"])
    shape = tuple(int(axis) for axis in fields["shape"])
    if start < 0 or end < start or any(axis < 0 for axis in shape):
        raise ValueError("negative sizes")
    return _Entry(str(fields["dtype"]), shape, base + start, base + end)


def _damaged(path: Path, got: str, expected: str = "a complete safetensors file") -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"the file {path.name} is truncated or damaged",
        got=got,
        expected=expected,
        next_step="Fetch the file again.",
    )
