"""Approved descriptions into the agent's store of known operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eval.rating.verdicts import Add, Approved


@contextmanager
def adder(*, folder: Path | None = None) -> Iterator[Add]:
    """A function that adds an approved description; the store is owned while it is open. Raises StoreBusy."""
    from agent.describers.fields import SemanticFields
    from agent.embedder import load_embedder
    from agent.known_operations import KnownOperation, open_store
    from agent.mapping_embedding import MappingEmbedder
    from maps_engine.folders import cache_folder
    from maps_engine.relation_catalogue import load_relations

    embedder = MappingEmbedder(SemanticFields(load_embedder(), cache_folder=cache_folder()))
    with open_store(embedder, load_relations(), folder=folder) as store:

        def add(found: Approved) -> None:
            examples = tuple((source, (target,)) for source, target in found.examples)
            store.add(KnownOperation(found.operation, found.description, examples, "added"))

        yield add
