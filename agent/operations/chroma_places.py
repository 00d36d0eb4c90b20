"""Where a Chroma database lies: a folder that one process owns at a time, or a server.

Two writers on one folder lose data silently, so a folder is opened under a lock file, which the system releases when
its owner dies, and closed after use. A server serves many writers and needs no lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agent.errors import StoreBusy, StoreUnusable

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

URL_VARIABLE: Final = "HEADSCRIBE_CHROMA_URL"
DATABASE_MOVED: Final = "(code: 1032)"  # SQLITE_READONLY_DBMOVED: the open file is no longer the one at its path


@contextmanager
def embedded_client(folder: Path, *, lock_seconds: float) -> Iterator[ClientAPI]:
    """A client that owns `folder` while it is open. Raises StoreBusy, StoreUnusable."""
    import chromadb
    from chromadb.config import Settings

    with _owned(folder, lock_seconds):
        with one_store_error(str(folder)):
            client = chromadb.PersistentClient(path=str(folder), settings=Settings(anonymized_telemetry=False))
        try:
            yield client
        finally:
            client.close()  # type: ignore[attr-defined]  # of every client, though not of its interface


@contextmanager
def server_client(url: str) -> Iterator[ClientAPI]:
    """A client of the server at `url`. Raises StoreUnusable."""
    import chromadb
    from chromadb.config import Settings

    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise StoreUnusable("this is no address of a Chroma server", got=url, expected="http://host:port")
    try:
        with one_store_error(url):
            client = chromadb.HttpClient(
                host=parts.hostname,
                port=parts.port or (443 if parts.scheme == "https" else 8000),
                ssl=parts.scheme == "https",
                settings=Settings(anonymized_telemetry=False),
            )
    except ValueError as error:  # what chromadb raises when nobody answers, and urllib for a bad port
        raise StoreUnusable(
            "the Chroma server cannot be reached", got=url, next_step=f"Start it or unset {URL_VARIABLE}."
        ) from error
    try:
        yield client
    finally:
        client.close()  # type: ignore[attr-defined]


@contextmanager
def _owned(folder: Path, seconds: float) -> Iterator[None]:
    """Own the folder's lock file; released by the system when the process dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "owner.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=seconds)
    except Timeout as error:
        raise StoreBusy(
            "another process owns the store of known operations",
            got=str(folder),
            next_step=f"Wait for it, or run a Chroma server and set {URL_VARIABLE}.",
        ) from error
    except OSError as error:
        raise StoreUnusable(
            "the folder of known operations cannot be written",
            got=f"{folder}: {error.strerror}",
            next_step="Set HEADSCRIBE_DATA to a writable folder.",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def one_store_error(place: str) -> Iterator[None]:
    """Chroma's, SQLite's and the connection's own errors as one clear StoreUnusable."""
    import sqlite3

    import httpx
    from chromadb.errors import ChromaError

    try:
        yield
    except (ChromaError, sqlite3.Error, httpx.HTTPError, OSError) as error:
        if DATABASE_MOVED in str(error):
            raise StoreUnusable(
                "the folder of known operations was moved or deleted while it was open",
                got=place,
                next_step="Run the command again; a folder that is missing is built anew.",
            ) from error
        raise StoreUnusable(
            "the store of known operations does not work",
            got=f"{type(error).__name__}: {error} at {place}",
            next_step="Check that the server runs, or move the folder away and let it be built again.",
        ) from error
