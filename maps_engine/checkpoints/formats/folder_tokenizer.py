"""The tokenizer of a folder: tokenizer.json as it is, or a slow tokenizer converted once by transformers."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from maps_engine.checkpoints.fingerprint import fingerprint
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel
from maps_engine.folders import cache_folder, write_atomically

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
_SLOW = ("tokenizer.model", "vocab.json")


def folder_tokenizer(folder: Path) -> Tokenizer:
    """Raises BrokenCheckpoint (none, damaged), UnsupportedModel (not convertible), CacheUnusable."""
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer(folder / "tokenizer.json", "Fetch the tokenizer files again.")
    present = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not any(path.name in _SLOW for path in present):
        raise BrokenCheckpoint("the checkpoint has no tokenizer", got=f"no tokenizer.json in {folder}")
    kept = cache_folder() / "tokenizers" / f"{fingerprint(present)}.tokenizer.json"
    if not kept.exists():
        write_atomically(kept, _converted(folder).to_str().encode())
    return read_tokenizer(kept, f"Delete {kept} and try again.")


def read_tokenizer(path: Path, next_step: str) -> Tokenizer:
    """A tokenizer.json. Raises BrokenCheckpoint."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise BrokenCheckpoint(f"the tokenizer {path.name} is damaged", got=error, next_step=next_step) from error


def _converted(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, ImportError, KeyError) as error:
        raise UnsupportedModel("the tokenizer cannot be converted", got=error) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UnsupportedModel("the tokenizer has no fast form", got=type(tokenizer).__name__)
    return backend
