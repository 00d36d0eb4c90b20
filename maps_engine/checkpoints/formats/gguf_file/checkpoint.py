"""Opening a GGUF file: header, tokenizer, tensors, hash."""

from __future__ import annotations

from pathlib import Path

from maps_engine.checkpoints.fingerprint import fingerprint
from maps_engine.checkpoints.formats.gguf_file.dialects import open_gguf
from maps_engine.checkpoints.formats.gguf_file.header import GgufHeader, read_gguf_header
from maps_engine.checkpoints.formats.gguf_file.tokenizer import gguf_tokenizer
from maps_engine.checkpoints.formats.opened import OpenedFiles

_UNKNOWN, _CONTROL = 2, 3  # llama.cpp's token types that no text spells


def open_gguf_checkpoint(path: Path) -> OpenedFiles:
    """Raises UnsupportedModel, BrokenCheckpoint, CacheUnusable."""
    header = read_gguf_header(path)
    settings, source = open_gguf(header)
    hashed = fingerprint([path])
    tokenizer = gguf_tokenizer(header, hashed)
    return OpenedFiles(settings, source, tokenizer, _special_ids(header), _ends(header), hashed)


def _ends(header: GgufHeader) -> tuple[int, ...]:
    named = (header.metadata.get(f"tokenizer.ggml.{end}_token_id") for end in ("bos", "eos"))
    return tuple(int(i) for i in named if i is not None)


def _special_ids(header: GgufHeader) -> frozenset[int]:
    kinds = header.metadata.get("tokenizer.ggml.token_type", [])
    return frozenset(i for i, kind in enumerate(kinds) if kind in (_UNKNOWN, _CONTROL))
