"""Another process at work on a store of known operations; prints the name of each operation once it is confirmed.

    python -m tests.support.agent.known_worker PLACE WHO N BATCH [rebuild | move]

PLACE is a folder or the address of a Chroma server. `rebuild` rebuilds after every batch; `move` opens the store for
one embedder and the other in turn, so that every opening moves it.
"""

from __future__ import annotations

import random
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from agent.operations.operation import KnownOperation
from agent.operations.store import KnownOperationStore, open_store
from agent.words.fields import SemanticFields
from agent.words.mapping_vectors import MappingEmbedder
from maps_engine.relations.catalogue import load_relations
from tests.support.agent.mappings import LetterEmbedder

RELATIONS = load_relations(("copying", "word-to-first-letter"))
EMBEDDERS = [MappingEmbedder(SemanticFields(LetterEmbedder(name, width))) for name, width in (("a", 64), ("b", 48))]


def opened(place: str, which: int = 0, **options: bool) -> AbstractContextManager[KnownOperationStore]:
    where = {"url": place} if place.startswith("http") else {"folder": Path(place)}
    return open_store(EMBEDDERS[which], RELATIONS, lock_seconds=60, **where, **options)


def operation(name: str) -> KnownOperation:
    """Always the same three pairs of made words for a name, other ones for another name."""
    chance = random.Random(name)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(6)]
    return KnownOperation(name, f"made by {name}", tuple((words[i], (words[i + 3],)) for i in range(3)))


def work(place: str, who: str, n: int, batch: int, mode: str = "") -> None:
    for start in range(0, n, batch):
        some = [operation(f"{who}-{i}") for i in range(start, min(n, start + batch))]
        with opened(place, start // batch % 2 if mode == "move" else 0, change_embedder=bool(mode)) as store:
            store.add(*some)
            if mode == "rebuild":
                store.rebuild()
        sys.stdout.write("".join(f"{one.name}\n" for one in some))
        sys.stdout.flush()


if __name__ == "__main__":
    place, who, n, batch, *mode = sys.argv[1:]
    work(place, who, int(n), int(batch), *mode)
