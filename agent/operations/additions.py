"""How operations come into the store of known operations: typed, from a file, from a head's description.

Every way ends in `add_operations`, with one rule for names, texts and examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.errors import UnknownOperation
from agent.operations.operation import KnownOperation
from maps_engine.checkpoints.token_spelling import visible
from maps_engine.relations.catalogue import Relation
from maps_engine.relations.format import Pair, clean_word, merge_sources

if TYPE_CHECKING:
    from agent.operations.store import KnownOperationStore

MAX_NAME: Final = 120
MAX_DESCRIPTION: Final = 2000
ARROW: Final = "->"


@dataclass(frozen=True)
class Additions:
    """What became of operations that were handed in: names added, and names that the catalogue has already."""

    added: tuple[str, ...]
    in_catalogue: tuple[str, ...]


@contextmanager
def open_known_operations(
    *, folder: Path | None = None, url: str | None = None, change_embedder: bool = False
) -> Iterator[KnownOperationStore]:
    """The store with the built-in embedder and the whole catalogue. Raises StoreBusy, StoreUnusable, OtherEmbedder."""
    from agent.operations.store import open_store
    from agent.words.embedder import load_embedder
    from agent.words.fields import SemanticFields
    from agent.words.mapping_vectors import MappingEmbedder
    from maps_engine.folders import cache_folder
    from maps_engine.relations.catalogue import load_relations

    embedder = MappingEmbedder(SemanticFields(load_embedder(), cache_folder=cache_folder()))
    with open_store(embedder, load_relations(), folder=folder, url=url, change_embedder=change_embedder) as store:
        yield store


def add_operations(store: KnownOperationStore, operations: Sequence[KnownOperation]) -> Additions:
    """Add what the catalogue does not have; operations of one name share their examples."""
    by_name: dict[str, KnownOperation] = {}
    for one in operations:
        before = by_name.get(one.name)
        by_name[one.name] = replace(one, examples=merge_sources(before.examples + one.examples)) if before else one
    known = tuple(name for name in by_name if store.in_catalogue(name))
    new = tuple(one for name, one in by_name.items() if name not in known)
    if new:
        store.add(*new)
    return Additions(tuple(one.name for one in new), known)


def operation_of_pairs(name: str, description: str, pairs: Iterable[Pair], *, origin: str = "added") -> KnownOperation:
    """An operation somebody typed or brought in a file. Raises UnknownOperation for a name or text that cannot be."""
    examples = merge_sources(pairs)
    if not examples:
        raise UnknownOperation("an operation needs example pairs", got=visible(name), expected="--example 'cat->cats'")
    checked = (_checked("name", name, MAX_NAME), _checked("description", description, MAX_DESCRIPTION))
    return KnownOperation(*checked, examples, origin)


def _checked(what: str, text: str, longest: int) -> str:
    try:
        cleaned = clean_word(" ".join(text.split()))
    except ValueError as error:
        raise UnknownOperation(f"the {what} of an operation cannot be used", got=visible(str(error))) from error
    if len(cleaned) > longest:
        raise UnknownOperation(f"the {what} is too long", got=f"{len(cleaned)} characters", expected=f"up to {longest}")
    return cleaned


def operation_of_head(
    operation: str, description: str, rows: Iterable[tuple[str, Sequence[str]]], *, origin: str
) -> KnownOperation:
    """A described head as an operation: its rows are the examples, tokens that are no plain text left out.

    The texts come from describers and tokens: control characters are shown, lengths cut. Raises UnknownOperation.
    """
    return operation_of_pairs(
        visible(" ".join(operation.split()))[:MAX_NAME],
        visible(" ".join(description.split()))[:MAX_DESCRIPTION],
        _plain_rows(rows),
        origin=visible(origin),
    )


def _plain_rows(rows: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Pair]:
    for source, targets in rows:
        words = [word for word in map(_plain, targets) if word]
        if words and (token := _plain(source)):
            yield token, tuple(dict.fromkeys(words))


def _plain(token: str) -> str:
    try:
        return clean_word(token)
    except ValueError:
        return ""


def operation_of_file(relation: Relation, *, name: str | None, description: str | None) -> KnownOperation:
    """A file of pairs (`maps_engine.relations.catalogue.read_pairs_file`) as an operation."""
    return operation_of_pairs(name or relation.name, description or relation.description, relation.pairs)


def pair_of_text(text: str) -> Pair:
    """`source->target` as a pair; spaces around both are left out. Raises UnknownOperation."""
    source, arrow, target = text.partition(ARROW)
    try:
        if not arrow:
            raise ValueError(f"{text} has no {ARROW}")
        return clean_word(source), (clean_word(target),)
    except ValueError as error:
        raise UnknownOperation(
            "an example cannot be read", got=visible(str(error)), expected=f"'France{ARROW}Paris'"
        ) from error
