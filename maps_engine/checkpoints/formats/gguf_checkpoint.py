"""Opening a GGUF file: header, tokenizer, tensors, hash."""

from __future__ import annotations

from pathlib import Path

from maps_engine.checkpoints.fingerprint import fingerprint
from maps_engine.checkpoints.formats.gguf_dialects import open_gguf
from maps_engine.checkpoints.formats.gguf_header import GgufHeader, read_gguf_header
from maps_engine.checkpoints.formats.gguf_tokenizer import gguf_tokenizer
from maps_engine.checkpoints.formats.opened import OpenedFiles

_UNKNOWN, _CONTROL = 2, 3  # llama.cpp's token types that no text spells


def open_gguf_checkpoint(path: Path) -> OpenedFiles:
    """Raises UnsupportedModel, BrokenCheckpoint, CacheUnusable."""
    header = read_gguf_header(path)
    settings, source = open_gguf(header)
    hashed = fingerprint([path])
    return OpenedFiles(settings, source, gguf_tokenizer(header, hashed), _special_ids(header), hashed)


def _special_ids(header: GgufHeader) -> frozenset[int]:
    kinds = header.metadata.get("tokenizer.ggml.token_type", [])
    return frozenset(i for i, kind in enumerate(kinds) if kind in (_UNKNOWN, _CONTROL))
