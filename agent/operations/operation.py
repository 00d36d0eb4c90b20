"""A known operation: what heads are compared with, whoever brought it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from maps_engine.relations.catalogue import Relation

MAX_PAIRS: Final = 60  # of a relation, spread over its list: enough for a stable vector


@dataclass(frozen=True, slots=True)
class KnownOperation:
    """A named operation with example mappings. `origin`: "catalogue", "added", or where a description came from."""

    name: str
    description: str
    examples: tuple[tuple[str, tuple[str, ...]], ...]
    origin: str = "added"

    @classmethod
    def of(cls, relation: Relation) -> KnownOperation:
        """A relation of the catalogue as an operation, with at most 60 of its pairs."""
        step = max(1, -(-len(relation.pairs) // MAX_PAIRS))
        return cls(relation.name, relation.description, relation.pairs[::step], "catalogue")


def same_name(first: str, second: str) -> bool:
    """Whether two names differ in case, spaces, underscores and hyphens only."""
    return _key(first) == _key(second)


def _key(name: str) -> str:
    return "-".join(name.casefold().replace("_", " ").replace("-", " ").split())
