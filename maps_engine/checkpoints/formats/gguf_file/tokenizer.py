"""The tokenizer inside a GGUF file, converted once by transformers and then kept as a tokenizer.json."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer

from maps_engine.checkpoints.formats.folder_tokenizer import read_tokenizer
from maps_engine.checkpoints.formats.gguf_file.header import GgufHeader
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel
from maps_engine.folders import cache_folder, write_atomically

_VERSION = 1  # raise when the conversion changes
_KEYS = {
    "tokenizer_type": "model",
    "pre_tokenizer_type": "pre",
    "tokens": "tokens",
    "scores": "scores",
    "token_type": "token_type",
    "merges": "merges",
    "precompiled_charsmap": "precompiled_charsmap",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
    "unk_token_id": "unknown_token_id",
    "pad_token_id": "padding_token_id",
    "add_prefix_space": "add_space_prefix",
}


def gguf_tokenizer(header: GgufHeader, fingerprint: str) -> Tokenizer:
    """The file's tokenizer. Raises UnsupportedModel (unknown kind), BrokenCheckpoint (none), CacheUnusable."""
    kept = cache_folder() / "gguf" / f"{fingerprint}-v{_VERSION}.tokenizer.json"
    if kept.exists():
        return read_tokenizer(kept, f"Delete {kept} and try again.")
    tokenizer = _convert(header)
    write_atomically(kept, tokenizer.to_str().encode())
    return tokenizer


def _convert(header: GgufHeader) -> Tokenizer:
    parts: dict[str, Any] = {
        name: header.metadata[f"tokenizer.ggml.{key}"]
        for name, key in _KEYS.items()
        if f"tokenizer.ggml.{key}" in header.metadata
    }
    if "tokens" not in parts:
        raise BrokenCheckpoint("the GGUF file holds no vocabulary", got=f"no tokenizer.ggml.tokens in {header.path}")
    from transformers.integrations.gguf import convert_gguf_tokenizer

    try:
        tokenizer, _ = convert_gguf_tokenizer(header.architecture, parts)
    except (ValueError, KeyError) as error:
        raise UnsupportedModel("the GGUF file's tokenizer cannot be read", got=error) from error
    return Tokenizer.from_str(tokenizer.to_str())
