"""Tensors of a .bin or .pt file: the fallback for checkpoints without safetensors. Weights only, no code is run."""

from __future__ import annotations

import pickle  # noqa: TID251 - only for the name of its exception
import struct
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from maps_engine.checkpoints.formats.tensor_source import Rows, owner_of, row_indices
from maps_engine.errors import BrokenCheckpoint

# what unpickling random bytes has been seen to raise
_DAMAGED = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
    pickle.UnpicklingError,
)


class TorchSource:
    """Reads one file, mapped where its format allows (torch 1.6 and later). Raises BrokenCheckpoint."""

    def __init__(self, path: Path) -> None:
        try:
            with warnings.catch_warnings():
                # torch remarks on odd pickles at length; the error below says it in a line
                warnings.simplefilter("ignore", UserWarning)
                loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except _DAMAGED as error:
            raise BrokenCheckpoint(
                f"the file {path.name} is damaged or holds more than weights",
                got=str(error).splitlines()[0] if str(error) else type(error).__name__,
                next_step="Fetch the file again, or use the model's safetensors files.",
            ) from error
        if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
            loaded = loaded["state_dict"]
        if not isinstance(loaded, dict):
            raise BrokenCheckpoint(f"the file {path.name} is no checkpoint", got=type(loaded).__name__)
        self._tensors = {name: value for name, value in loaded.items() if isinstance(value, Tensor)}

    def names(self) -> frozenset[str]:
        return frozenset(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(owner_of(self._tensors, name).shape)

    def read(self, name: str) -> Tensor:
        return owner_of(self._tensors, name).detach()

    def read_rows(self, name: str, rows: Rows) -> Tensor:
        tensor = self.read(name)
        return tensor[row_indices(rows, len(tensor))] if isinstance(rows, Tensor) else tensor[rows]
