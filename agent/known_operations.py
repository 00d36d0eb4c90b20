"""The store of known operations: Chroma, one vector a mapping, retrieval of operations alike.

Two collections: `catalogue`, rebuilt whenever the catalogue's content changes, and `added`, which only people
change. Each remembers its embedder; another one is refused. An embedded store is owned by one process at a time
(two writers on one folder lose data silently), so it is opened under a lock file and closed after use. With a Chroma
server there is no lock: ids and contents are determined by the catalogue, so writers of the same catalogue agree.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from agent.errors import OtherEmbedder, StoreBusy, StoreUnusable, UnknownOperation
from agent.mapping_embedding import MappingEmbedder, Pairs
from agent.results import Retrieved
from maps_engine.folders import data_folder
from maps_engine.relation_catalogue import Relation
from maps_engine.results import HeadMapping

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

CATALOGUE: Final = "headscribe-catalogue"
ADDED: Final = "headscribe-added"
MAX_PAIRS: Final = 60  # of a relation, spread over its list: enough for a stable vector
SHOWN_EXAMPLES: Final = 4
LOCK_SECONDS: Final = 60.0
URL_VARIABLE: Final = "HEADSCRIBE_CHROMA_URL"


@dataclass(frozen=True, slots=True)
class KnownOperation:
    """A named operation with example mappings."""

    name: str
    description: str
    examples: tuple[tuple[str, tuple[str, ...]], ...]
    origin: str = "added"  # "catalogue" | "added"

    @classmethod
    def of(cls, relation: Relation) -> KnownOperation:
        """A relation of the catalogue as an operation, with at most 60 of its pairs."""
        step = max(1, -(-len(relation.pairs) // MAX_PAIRS))
        return cls(relation.name, relation.description, relation.pairs[::step], "catalogue")


class KnownOperationStore:
    """Opened by `open_store`; see there."""

    def __init__(
        self, client: ClientAPI, embedder: MappingEmbedder, relations: Sequence[Relation], *, place: str
    ) -> None:
        self._client = client
        self._embedder = embedder
        self._place = place
        self._catalogue = tuple(KnownOperation.of(relation) for relation in relations if relation.pairs)
        self._version = _content_hash(self._catalogue)
        with _mapped(place):
            self._added = self._collection(ADDED)
            self._built_in = self._ready_catalogue()

    def retrieve(self, mapping: HeadMapping, n: int = 5) -> tuple[Retrieved, ...]:
        """The `n` operations most alike to the head's shown rows, best first."""
        return self.retrieve_pairs([(r.token, [t.token for t in r.targets]) for r in mapping.rows], n)

    def retrieve_pairs(self, pairs: Pairs, n: int = 5) -> tuple[Retrieved, ...]:
        """The `n` operations most alike to (source, targets) pairs; similarity is a cosine."""
        vector = self._embedder.embed(pairs)
        if not vector.any():
            return ()
        found: list[Retrieved] = []
        with _mapped(self._place):
            for collection in (self._built_in, self._added):
                size = collection.count()
                if size:
                    answer = collection.query(query_embeddings=vector[None], n_results=min(n, size))
                    found += _retrieved(answer)
        found.sort(key=lambda one: (-one.similarity, one.operation))
        return tuple(found[:n])

    def list(self) -> tuple[KnownOperation, ...]:
        """Every operation in the store, catalogue first, by name."""
        with _mapped(self._place):
            return tuple(one for c in (self._built_in, self._added) for one in _operations(c))

    def add(self, operation: KnownOperation) -> None:
        """Keep an operation beside the catalogue; the same name replaces what was added before."""
        if not operation.name.strip() or not operation.examples:
            raise UnknownOperation("an operation needs a name and example pairs", got=repr(operation.name))
        if any(operation.name == one.name for one in self._catalogue):
            raise UnknownOperation("the catalogue has an operation of this name", got=operation.name)
        with _mapped(self._place):
            self._write(self._added, [operation])

    def remove(self, name: str) -> None:
        """Drop an added operation; those of the catalogue stay."""
        with _mapped(self._place):
            found = self._added.get(ids=[name])["ids"]
            if found:
                self._added.delete(ids=[name])
        if not found:
            raise UnknownOperation("no such added operation", got=name, next_step="`list` shows what can be removed.")

    def rebuild(self) -> None:
        """Embed everything anew: the catalogue from its pairs, added operations from their stored examples."""
        with _mapped(self._place):
            kept = _operations(self._added)
            self._client.delete_collection(CATALOGUE)
            self._built_in = self._ready_catalogue()
            self._write(self._added, kept)

    def _ready_catalogue(self) -> Collection:
        """The catalogue's collection, built when it is new, half-built or of another content."""
        collection = self._collection(CATALOGUE)
        if (collection.metadata or {}).get("complete") == self._version:
            return collection
        known = {one.name for one in self._catalogue}
        stale = [name for name in collection.get(include=[])["ids"] if name not in known]
        if stale:
            collection.delete(ids=stale)
        self._write(collection, self._catalogue)
        # Last, so that a build that was cut short is seen as such and done again.
        collection.modify(metadata={"embedder": self._embedder.name, "complete": self._version})
        return collection

    def _collection(self, name: str) -> Collection:
        collection = self._client.get_or_create_collection(
            name,
            metadata={"embedder": self._embedder.name},
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine"}},
        )
        made_with = (collection.metadata or {}).get("embedder")
        if made_with != self._embedder.name:
            raise OtherEmbedder(
                f"the store of known operations ({name}) was built with another embedder",
                got=made_with or "none recorded",
                expected=self._embedder.name,
                next_step="Use another data folder (HEADSCRIBE_DATA) or remove the old store.",
            )
        return collection

    def _write(self, collection: Collection, operations: Sequence[KnownOperation]) -> None:
        if not operations:
            return
        vectors = self._embedder.embed_many([one.examples for one in operations])
        collection.upsert(
            ids=[one.name for one in operations],
            embeddings=list(vectors),
            documents=[one.description for one in operations],
            metadatas=[
                {"origin": one.origin, "examples": json.dumps(one.examples, ensure_ascii=False)} for one in operations
            ],
        )


@contextmanager
def open_store(
    embedder: MappingEmbedder,
    relations: Sequence[Relation],
    *,
    folder: Path | None = None,
    url: str | None = None,
    lock_seconds: float = LOCK_SECONDS,
) -> Iterator[KnownOperationStore]:
    """The store in `folder` (default: the data folder), or on the Chroma server at `url` or HEADSCRIBE_CHROMA_URL.

    Raises StoreBusy (another process owns the folder), StoreUnusable, OtherEmbedder.
    """
    address = url or (None if folder else os.environ.get(URL_VARIABLE)) or None
    if address:
        yield KnownOperationStore(_server(address), embedder, relations, place=address)
        return
    place = folder or data_folder() / "chroma"
    with _owned(place, lock_seconds):
        client = _embedded(place)
        try:
            yield KnownOperationStore(client, embedder, relations, place=str(place))
        finally:
            client.close()  # type: ignore[attr-defined]  # of every client, though not of its interface


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
def _mapped(place: str) -> Iterator[None]:
    """Chroma's, SQLite's and the connection's own errors as one clear StoreUnusable."""
    import sqlite3

    import httpx
    from chromadb.errors import ChromaError

    try:
        yield
    except (ChromaError, sqlite3.Error, httpx.HTTPError, OSError) as error:
        raise StoreUnusable(
            "the store of known operations does not work",
            got=f"{type(error).__name__}: {error} at {place}",
            next_step="Check that the server runs, or move the folder away and let it be built again.",
        ) from error


def _embedded(folder: Path) -> ClientAPI:
    import chromadb
    from chromadb.config import Settings

    with _mapped(str(folder)):
        return chromadb.PersistentClient(path=str(folder), settings=Settings(anonymized_telemetry=False))


def _server(url: str) -> ClientAPI:
    import chromadb
    from chromadb.config import Settings

    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise StoreUnusable("this is no address of a Chroma server", got=url, expected="http://host:port")
    try:
        with _mapped(url):
            return chromadb.HttpClient(
                host=parts.hostname,
                port=parts.port or (443 if parts.scheme == "https" else 8000),
                ssl=parts.scheme == "https",
                settings=Settings(anonymized_telemetry=False),
            )
    except ValueError as error:  # what chromadb raises when nobody answers
        raise StoreUnusable(
            "the Chroma server cannot be reached", got=url, next_step=f"Start it or unset {URL_VARIABLE}."
        ) from error


def _operations(collection: Collection) -> list[KnownOperation]:
    stored: Any = collection.get(include=["documents", "metadatas"])
    made = [
        KnownOperation(name, text or "", _examples(metadata), str(metadata.get("origin", "added")))
        for name, text, metadata in zip(stored["ids"], stored["documents"], stored["metadatas"], strict=True)
    ]
    return sorted(made, key=lambda one: one.name)


def _examples(metadata: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((source, tuple(targets)) for source, targets in json.loads(metadata["examples"]))


def _retrieved(answer: Any) -> list[Retrieved]:
    found = []
    columns = (answer[key][0] for key in ("ids", "distances", "documents", "metadatas"))
    for name, distance, text, metadata in zip(*columns, strict=True):
        shown = tuple((source, targets[0]) for source, targets in _examples(metadata)[:SHOWN_EXAMPLES])
        found.append(Retrieved(name, 1.0 - float(distance), text or "", shown))
    return found


def _content_hash(operations: Sequence[KnownOperation]) -> str:
    content = json.dumps([[one.name, one.description, one.examples] for one in operations])
    return hashlib.sha256(content.encode()).hexdigest()[:32]
