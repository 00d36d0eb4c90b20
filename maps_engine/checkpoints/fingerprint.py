"""Content hashes: of one file, and of a whole checkpoint.

A file of up to 256 MiB is hashed whole (SHA-256). Of a larger one the hash covers its length, its first and
last MiB and 4 KiB out of every 256 KiB: a 16 GB checkpoint then costs 250 MB of reading, and a change to a
single head of a model that large, whose rows of W_V are contiguous, is still seen.
Hashes are remembered in the cache folder under (path, length, modification time, inode), so an unchanged
file is not read again; where that folder cannot be written they are simply computed anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from maps_engine.errors import CacheUnusable
from maps_engine.folders import cache_folder, write_atomically

WHOLE_UP_TO = 256 * 2**20
_EDGE, _STRIDE, _SAMPLE = 2**20, 256 * 2**10, 4096


def fingerprint(files: Iterable[Path]) -> str:
    """One hash (32 hex digits) for the files of a checkpoint, in the order given; names do not matter."""
    whole = hashlib.sha256()
    for path in files:
        whole.update(file_hash(path).encode())
    return whole.hexdigest()[:32]


def file_hash(path: Path) -> str:
    """SHA-256 of a file of up to 256 MiB, of a sample of a larger one (it then starts with "sampled-")."""
    state = path.resolve().stat()
    key = "|".join(map(str, (path.resolve(), state.st_size, state.st_mtime_ns, state.st_ino)))
    memo = cache_folder() / "hashes" / f"{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:32]}.json"
    known = _remembered(memo, key)
    if known is not None:
        return known
    found = sha256_of(path) if state.st_size <= WHOLE_UP_TO else _sampled(path, state.st_size)
    _remember(memo, key, found)
    return found


def sha256_of(path: Path) -> str:
    """SHA-256 of the whole file, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sampled(path: Path, size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        descriptor = file.fileno()
        digest.update(os.pread(descriptor, _EDGE, 0))
        digest.update(os.pread(descriptor, _EDGE, size - _EDGE))
        for start in range(_EDGE, size - _EDGE, _STRIDE):
            digest.update(os.pread(descriptor, _SAMPLE, start))
    return f"sampled-{digest.hexdigest()}"


def _remembered(memo: Path, key: str) -> str | None:
    try:
        entry = json.loads(memo.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(entry["hash"]) if isinstance(entry, dict) and entry.get("file") == key else None


def _remember(memo: Path, key: str, found: str) -> None:
    try:
        write_atomically(memo, json.dumps({"file": key, "hash": found}).encode())
    except CacheUnusable:
        return  # only a saving of time; whoever needs the cache will say that it cannot be used
