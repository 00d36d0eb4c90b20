"""Writes a file whole or not at all: everybody else sees the old content or the new one, never a part.

The content goes to a temporary file in the same folder, is brought to the disk, and takes the place of the old file
by one rename. Whatever stops it (full disk, error, Ctrl-C) leaves the old file as it was and no temporary file.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maps_engine.errors import FileNotWritten

NEXT_STEP = "Name another place for it."


def write_whole(path: Path, content: str | bytes, *, parents: bool = False, next_step: str = NEXT_STEP) -> Path:
    """Write `content` to `path`, texts in UTF-8 (halves of surrogate pairs as `?`); returns `path`.

    Args:
        path: the file. A symbolic link stays, and the file that it names is written.
        content: all of it.
        parents: make the folder where it is missing.
        next_step: what an error advises.

    Raises:
        FileNotWritten: the folder is missing, or there is no write access or no free space.
    """
    blob = content.encode("utf-8", "replace") if isinstance(content, str) else content
    with whole_file(path, parents=parents, next_step=next_step) as temporary:
        temporary.write_bytes(blob)
    return path


@contextmanager
def whole_file(path: Path, *, parents: bool = False, next_step: str = NEXT_STEP) -> Iterator[Path]:
    """As `write_whole`, for content that comes in pieces: the file to fill, which becomes `path` at the end."""
    with file_errors(path, next_step=next_step):
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary


@contextmanager
def file_errors(path: Path, *, next_step: str = NEXT_STEP) -> Iterator[None]:
    """Turns the system's refusals into one FileNotWritten about `path`."""
    try:
        yield
    except OSError as error:
        raise FileNotWritten(
            "the file cannot be written",
            got=f"{path}: {error.strerror or error}",
            expected="a folder that exists, with write access and free space",
            next_step=next_step,
        ) from error


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """`whole_file` with the system's own errors (OSError).

    `durable=False` does not wait for the disk: for caches, which are made anew where a power cut spoilt them.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.is_relative_to("/dev") or (path.exists() and not path.is_file()):
        yield path  # a device or a pipe takes what is written to it and cannot be replaced
        return
    target = path.resolve()
    temporary = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        if durable:
            _bring_to_disk(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _bring_to_disk(path: Path) -> None:
    """Without this, a power cut after the rename may leave an empty file under the final name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
