"""The header of a GGUF file (version 2 and 3): metadata and the table of tensors, no tensor data.

Parsed here rather than by `gguf.GGUFReader`, which makes an array object of each of the 100,000 strings
of a vocabulary and so takes seconds where this takes a fraction of one.
Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from maps_engine.errors import BrokenCheckpoint, UnsupportedModel

_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where one tensor lies; `shape` is in torch's order (slowest axis first)."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    n_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture; empty where the file has none."""
        return str(self.metadata.get("general.architecture", ""))

    def own(self, key: str, default: Any = None) -> Any:
        """What the file says of `key` for its architecture."""
        return self.metadata.get(f"{self.architecture}.{key}", default)


def read_gguf_header(path: Path) -> GgufHeader:
    """Parse the header. Raises BrokenCheckpoint (truncated, not GGUF), UnsupportedModel (unknown quantisation)."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
            cursor = _Cursor(blob, path)
            n_tensors, n_entries = cursor.preamble()
            metadata = dict(cursor.entry() for _ in range(n_entries))
            table = [cursor.tensor_line() for _ in range(n_tensors)]
            alignment = int(metadata.get("general.alignment", _DEFAULT_ALIGNMENT))
            data_start = -(-cursor.position // alignment) * alignment
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise _truncated(path, f"{size} bytes ({error})", "a complete header") from error
    tensors = {line.name: _placed(line, data_start, path) for line in table}
    end = max((tensor.start + tensor.n_bytes for tensor in tensors.values()), default=0)
    if end > size:
        raise _truncated(path, f"{size} bytes", f"at least {end}")
    return GgufHeader(path=path, metadata=metadata, tensors=tensors)


@dataclass(frozen=True, slots=True)
class _TensorLine:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Cursor:
    """Reads one value after another."""

    def __init__(self, blob: mmap.mmap, path: Path) -> None:
        self.blob, self.path, self.position = blob, path, 0

    def preamble(self) -> tuple[int, int]:
        if self.blob[:4] != b"GGUF":
            raise BrokenCheckpoint("not a GGUF file", got=self.path, expected="a file that starts with GGUF")
        self.position = 4
        version = self.take("<I")
        if version not in (2, 3):
            raise UnsupportedModel("unknown GGUF version", got=version, expected="2 or 3 (little-endian)")
        return self.take("<Q"), self.take("<Q")

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.blob, self.position)
        self.position += struct.calcsize(form)
        return value

    def string(self) -> str:
        start = self.position + 8
        (length,) = struct.unpack_from("<Q", self.blob, self.position)
        if length > len(self.blob) - start:
            raise ValueError("a string runs past the end")
        self.position = start + length
        return self.blob[start : self.position].decode("utf-8")

    def entry(self) -> tuple[str, Any]:
        return self.string(), self.value(self.take("<I"))

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.take("<I"), self.take("<Q")
            if count > len(self.blob):
                raise ValueError("an array runs past the end")
            return self.array(inner, count)
        if kind not in _FIXED:
            raise ValueError(f"metadata of type {kind}")
        return self.take("<" + _FIXED[kind])

    def array(self, kind: int, count: int) -> list[Any]:
        if kind in _FIXED:
            form = f"<{count}{_FIXED[kind]}"
            values = struct.unpack_from(form, self.blob, self.position)
            self.position += struct.calcsize(form)
            return list(values)
        return [self.value(kind) for _ in range(count)]

    def tensor_line(self) -> _TensorLine:
        name = self.string()
        n_axes = self.take("<I")
        if n_axes > 8:
            raise ValueError(f"tensor {name} with {n_axes} axes")
        axes = [self.take("<Q") for _ in range(n_axes)]
        return _TensorLine(name, tuple(reversed(axes)), self.take("<I"), self.take("<Q"))


def _placed(line: _TensorLine, data_start: int, path: Path) -> GgufTensor:
    try:
        kind = GGMLQuantizationType(line.kind)
        block, block_bytes = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise UnsupportedModel(
            f"tensor {line.name} of {path.name} has an unknown quantisation",
            got=f"GGML type {line.kind}",
            expected=", ".join(kind.name for kind in GGML_QUANT_SIZES),
        ) from None
    if line.shape and line.shape[-1] % block:
        raise _truncated(path, f"rows of {line.shape[-1]} in {line.name}", f"a multiple of {block}")
    return GgufTensor(line.shape, kind, data_start + line.offset, prod(line.shape) // block * block_bytes)


def _truncated(path: Path, got: str, expected: str) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"the GGUF file {path.name} is truncated or damaged",
        got=got,
        expected=expected,
        next_step="Fetch the file again.",
    )
