"""The store of known operations: Chroma, one vector a mapping, retrieval of operations alike.

Two collections: `catalogue`, brought up to date whenever the catalogue's content changes, and `added`, which only
people change. Each remembers its embedder; another one is refused until the store is rebuilt for it. Whatever a
killed process left half done is seen at the next opening: a catalogue without its done mark is written again, and
an added collection that was being moved to another embedder is either still the old one or complete.

On a server several processes may write at once: ids are the operations' names, and nothing is read, changed and
written back, so that writers of different operations cannot undo each other. See docs/method.md, "Retrieval".

The `Chroma` class of langchain-chroma was tried for writing and for queries. The tests of the store pass, but nothing
becomes shorter: it wraps the two calls `upsert` and `query`, and has no part in the lock on the folder, the check of
the embedder, the done mark, the move to another embedder or the update of vectors alone. It embeds one text for each
document, where ours embeds pairs, and gives distances without the stored vectors, so that similarities differ from the
7th digit on (0.38084275 for 0.38084268) and what is recorded would change. Importing it takes a second or two more.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from agent.errors import OtherEmbedder, UnknownOperation
from agent.operations.chroma_places import URL_VARIABLE, embedded_client, one_store_error, server_client
from agent.operations.operation import KnownOperation, same_name
from agent.results.evidence import Retrieved
from agent.words.embedder import BITS, Vectors
from agent.words.mapping_vectors import MappingEmbedder, Pairs
from maps_engine.folders import data_folder
from maps_engine.relations.catalogue import Relation
from maps_engine.results import HeadMapping

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

CATALOGUE: Final = "headscribe-catalogue"
ADDED: Final = "headscribe-added"
MOVING: Final = "headscribe-added-moving"  # the added operations under a new embedder, until it takes ADDED's place
SHOWN_EXAMPLES: Final = 4
LOCK_SECONDS: Final = 60.0
WRITTEN_AT_ONCE: Final = 200
DIGITS: Final = 4  # of similarities: those behind them differ with the processor and what is embedded beside
SPARE: Final = 20  # asked for beyond the number wanted, since Chroma leaves open which of several at one distance come
_WANTED: Any = ["documents", "metadatas"]
_Near: TypeAlias = tuple[float, str, str | None, Any]  # cosine, name, description, metadata


class KnownOperationStore:
    """Known operations in two collections of `client`; opened by `open_store`. Its methods raise StoreUnusable."""

    def __init__(
        self,
        client: ClientAPI,
        embedder: MappingEmbedder,
        relations: Sequence[Relation],
        *,
        place: str,
        change_embedder: bool = False,
    ) -> None:
        self._client = client
        self._embedder = embedder
        self._place = place
        self._catalogue = tuple(KnownOperation.of(relation) for relation in relations if relation.pairs)
        self._version = _content_hash(self._catalogue)
        with one_store_error(place):
            self._finish_move()
            if change_embedder:
                self._change_embedder()
            self._added = self._collection(ADDED)
            self._built_in = self._ready_catalogue()

    def retrieve(self, mapping: HeadMapping, n: int = 5) -> tuple[Retrieved, ...]:
        """The `n` operations most alike to the head's shown rows, best first."""
        return self.retrieve_pairs([(r.token, [t.token for t in r.targets]) for r in mapping.rows], n)

    def retrieve_pairs(self, pairs: Pairs, n: int = 5) -> tuple[Retrieved, ...]:
        """The `n` operations most alike to (source, targets) pairs; similarity is a cosine of DIGITS digits."""
        # before any word is embedded here: what is kept may differ in its last digits from what is made now
        self._embedder.remember([one.examples for one in self._catalogue])
        vector = self._embedder.embed(pairs)
        if not vector.any():
            return ()
        found: list[_Near] = []
        with one_store_error(self._place):
            for collection in (self._built_in, self._added):
                size = collection.count()
                if size:
                    asked = min(n + SPARE, size)
                    answer = collection.query(query_embeddings=vector[None], n_results=asked, include=_WANTED)
                    found += self._near(answer, vector)
        found.sort(key=lambda one: (-one[0], one[1]))
        return tuple(map(_retrieved, found[:n]))

    def _near(self, answer: Any, vector: Vectors) -> Sequence[_Near]:
        """Chroma's answer with cosines to vectors made here.

        Its own distances, and the vectors that it gives back, differ in their last digits with where it holds them.
        """
        names, texts, metadatas = (answer[part][0] for part in ("ids", "documents", "metadatas"))
        made = [self._embedder.embed_once(_examples(metadata)) for metadata in metadatas]
        cosines = [round(float(one.astype(np.float64) @ vector.astype(np.float64)), DIGITS) for one in made]
        return tuple(zip(cosines, names, texts, metadatas, strict=True))

    def list(self) -> tuple[KnownOperation, ...]:
        """Every operation in the store, catalogue first, by name."""
        with one_store_error(self._place):
            return tuple(one for c in (self._built_in, self._added) for one in _operations(c))

    def in_catalogue(self, name: str) -> bool:
        """Whether the catalogue has an operation of this name, however its words are joined."""
        return any(same_name(name, one.name) for one in self._catalogue)

    def add(self, *operations: KnownOperation) -> None:
        """Keep operations beside the catalogue; the same name replaces what was added before.

        When it returns they are stored, whatever happens to the process. Raises UnknownOperation.
        """
        for one in operations:
            if not one.name.strip() or not one.examples:
                raise UnknownOperation("an operation needs a name and example pairs", got=repr(one.name))
            if self.in_catalogue(one.name):
                raise UnknownOperation("the catalogue has an operation of this name", got=one.name)
        with one_store_error(self._place):
            self._write(self._added, operations)

    def remove(self, name: str) -> None:
        """Drop an added operation; those of the catalogue stay. Raises UnknownOperation."""
        with one_store_error(self._place):
            found = self._added.get(ids=[name])["ids"]
            if found:
                self._added.delete(ids=[name])
        if not found:
            raise UnknownOperation("no such added operation", got=name, next_step="`list` shows what can be removed.")

    def rebuild(self) -> None:
        """Embed everything anew: the catalogue from its pairs, added operations from their stored examples."""
        with one_store_error(self._place):
            self._built_in.modify(metadata={"embedder": self._embedder.name})
            self._built_in = self._ready_catalogue()
            done: dict[str, KnownOperation] = {}
            while changed := [one for one in _operations(self._added) if done.get(one.name) != one]:
                # Vectors only: a text that another process changed meanwhile stays, and is seen in the next round.
                for some in _batches(changed):
                    vectors = self._embedder.embed_many([one.examples for one in some])
                    self._added.update(ids=[one.name for one in some], embeddings=list(vectors))
                done |= {one.name: one for one in changed}

    def _ready_catalogue(self) -> Collection:
        """The catalogue's collection, written when it is new, half-written or of another content."""
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

    def _change_embedder(self) -> None:
        """Move the added operations to this embedder; the old ones go when the new ones are complete."""
        if (old := self._existing(CATALOGUE)) and _embedder_of(old) != self._embedder.name:
            self._client.delete_collection(CATALOGUE)
        old = self._existing(ADDED)
        if old is None or _embedder_of(old) == self._embedder.name:
            return
        if self._existing(MOVING):
            self._client.delete_collection(MOVING)
        new = self._collection(MOVING)
        self._write(new, _operations(old))
        new.modify(metadata={"embedder": self._embedder.name, "complete": "yes"})
        self._client.delete_collection(ADDED)
        self._finish_move()

    def _finish_move(self) -> None:
        """Give complete moved operations their name, where the process that moved them was killed before it did."""
        if self._existing(ADDED) is not None:
            return
        moved = self._existing(MOVING)
        if moved is not None and (moved.metadata or {}).get("complete"):
            moved.modify(name=ADDED)

    def _existing(self, name: str) -> Collection | None:
        from chromadb.errors import NotFoundError

        try:
            return self._client.get_collection(name, embedding_function=None)
        except NotFoundError:
            return None

    def _collection(self, name: str) -> Collection:
        collection = self._client.get_or_create_collection(
            name,
            metadata={"embedder": self._embedder.name},
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine"}},
        )
        made_with = _embedder_of(collection)
        if made_with != self._embedder.name:
            raise OtherEmbedder(
                f"the store of known operations ({name}) was built with another embedder",
                got=made_with or "none recorded",
                expected=self._embedder.name,
                next_step="`headscribe operations rebuild` embeds it anew.",
            )
        return collection

    def _write(self, collection: Collection, operations: Sequence[KnownOperation]) -> None:
        for some in _batches(operations):
            vectors = self._embedder.embed_many([one.examples for one in some])
            collection.upsert(
                ids=[one.name for one in some],
                embeddings=list(vectors),
                documents=[one.description for one in some],
                metadatas=[
                    {"origin": one.origin, "examples": json.dumps(one.examples, ensure_ascii=False)} for one in some
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
    change_embedder: bool = False,
) -> Iterator[KnownOperationStore]:
    """The store in `folder` (default: the data folder), or on the Chroma server at `url` or HEADSCRIBE_CHROMA_URL.

    `change_embedder` moves a store of another embedder to this one instead of refusing it; on a server nobody else
    should write meanwhile. Raises StoreBusy (another process owns the folder), StoreUnusable, OtherEmbedder.
    """
    address = url or (None if folder else os.environ.get(URL_VARIABLE)) or None
    place = folder or data_folder() / "chroma"
    with server_client(address) if address else embedded_client(place, lock_seconds=lock_seconds) as client:
        yield KnownOperationStore(
            client, embedder, relations, place=address or str(place), change_embedder=change_embedder
        )


def _embedder_of(collection: Collection) -> str | None:
    made_with = (collection.metadata or {}).get("embedder")
    return None if made_with is None else str(made_with)


def _batches(operations: Sequence[KnownOperation]) -> Iterator[Sequence[KnownOperation]]:
    for start in range(0, len(operations), WRITTEN_AT_ONCE):
        yield operations[start : start + WRITTEN_AT_ONCE]


def _operations(collection: Collection) -> list[KnownOperation]:
    stored: Any = collection.get(include=["documents", "metadatas"])
    made = [
        KnownOperation(name, text or "", _examples(metadata), str(metadata.get("origin", "added")))
        for name, text, metadata in zip(stored["ids"], stored["documents"], stored["metadatas"], strict=True)
    ]
    return sorted(made, key=lambda one: one.name)


def _examples(metadata: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((source, tuple(targets)) for source, targets in json.loads(metadata["examples"]))


def _retrieved(near: _Near) -> Retrieved:
    cosine, name, text, metadata = near
    shown = tuple((source, targets[0]) for source, targets in _examples(metadata)[:SHOWN_EXAMPLES])
    return Retrieved(name, cosine, text or "", shown)


def _content_hash(operations: Sequence[KnownOperation]) -> str:
    content = json.dumps([BITS, *([one.name, one.description, one.examples] for one in operations)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]
