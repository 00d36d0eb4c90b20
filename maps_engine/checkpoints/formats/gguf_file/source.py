"""Tensors of a GGUF file, dequantised one tensor or a few rows at a time.

Quantised blocks lie along rows, so a range of rows is dequantised alone.
"""

from __future__ import annotations

import math

import gguf.quants
import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES
from torch import Tensor

from maps_engine.checkpoints.formats.gguf_file.header import GgufHeader, GgufTensor
from maps_engine.checkpoints.formats.tensor_source import Rows, owner_of, row_indices
from maps_engine.errors import UnsupportedModel

ROWS_JOINED = 16  # the dequantiser goes 16 rows at a time: blocks of several rows in one halve its time
_ROWS_AT_ONCE = 4096  # bounds the dequantiser's temporaries, a few times its output


class GgufSource:
    """Reads the tensors that a header lists; the file is mapped, not loaded."""

    def __init__(self, header: GgufHeader) -> None:
        self._tensors = header.tensors
        self._blob = np.memmap(header.path, mode="r", dtype=np.uint8)

    def names(self) -> frozenset[str]:
        return frozenset(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return owner_of(self._tensors, name).shape

    def read(self, name: str) -> Tensor:
        return self.read_rows(name, slice(None))

    def read_rows(self, name: str, rows: Rows) -> Tensor:
        """Rows as float32. Raises UnsupportedModel where the quantisation cannot be undone."""
        tensor = owner_of(self._tensors, name)
        if len(tensor.shape) < 2:
            return self._dequantised(name, tensor, self._rows_of_bytes(tensor).reshape(1, -1))[0][rows]
        blob = self._rows_of_bytes(tensor)
        picked = blob[row_indices(rows, len(blob)).numpy()] if isinstance(rows, Tensor) else blob[rows]
        out = torch.empty(len(picked), *tensor.shape[1:])
        for start in range(0, len(picked), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            out[part] = self._dequantised(name, tensor, picked[part]).reshape(-1, *tensor.shape[1:])
        return out

    def _rows_of_bytes(self, tensor: GgufTensor) -> np.ndarray:
        blob = self._blob[tensor.start : tensor.start + tensor.n_bytes]
        return blob.reshape(tensor.shape[0], -1) if len(tensor.shape) > 1 else blob

    def _dequantised(self, name: str, tensor: GgufTensor, blob: np.ndarray) -> Tensor:
        row_bytes = tensor.shape[-1] // GGML_QUANT_SIZES[tensor.kind][0] * GGML_QUANT_SIZES[tensor.kind][1]
        joined = row_bytes * math.gcd(blob.size // row_bytes, ROWS_JOINED)
        try:
            values = gguf.quants.dequantize(np.ascontiguousarray(blob).reshape(-1, joined), tensor.kind)
        except NotImplementedError as error:
            raise UnsupportedModel(f"tensor {name} has a quantisation that cannot be read", got=error) from error
        values = np.asarray(values, dtype=np.float32).reshape(-1, tensor.shape[-1])
        return torch.from_numpy(values if values.flags.writeable else values.copy())  # not the mapped file itself
