"""Where headscribe keeps its files: a cache that may be deleted at any time, and data that may not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maps_engine.errors import CacheUnusable
from maps_engine.files import replacing


def cache_folder() -> Path:
    """`HEADSCRIBE_CACHE`, else `headscribe` in the XDG cache folder. Not created here."""
    return _folder("HEADSCRIBE_CACHE", "XDG_CACHE_HOME", ".cache")


def data_folder() -> Path:
    """`HEADSCRIBE_DATA`, else `headscribe` in the XDG data folder. Not created here."""
    return _folder("HEADSCRIBE_DATA", "XDG_DATA_HOME", ".local/share")


def _folder(own_variable: str, xdg_variable: str, below_home: str) -> Path:
    own = os.environ.get(own_variable)
    if own:
        return Path(own).expanduser()
    # The XDG specification says that a relative path there is to be ignored.
    shared = Path(os.environ.get(xdg_variable, ""))
    return (shared if shared.is_absolute() else Path.home() / below_home) / "headscribe"


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Turn the system's refusals (no access, disk full) into one clear CacheUnusable."""
    try:
        yield
    except OSError as error:
        raise CacheUnusable(
            "the cache folder cannot be used",
            got=f"{error.strerror or error} at {error.filename or folder}",
            expected="a folder with write access and free space",
            next_step="Set HEADSCRIBE_CACHE to another folder.",
        ) from error


def made(folder: Path) -> Path:
    """`folder`, created with its parents. Raises CacheUnusable."""
    with cache_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, content: bytes) -> None:
    """Write a cache file so that other processes see all of it or nothing. Raises CacheUnusable."""
    made(path.parent)
    with cache_errors(path.parent), replacing(path, durable=False) as temporary:
        temporary.write_bytes(content)
