"""An operation of the user's own, given as pairs in Python instead of a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from maps_engine.relations.format import OWN_CATEGORY, Relation, Row, merge_sources, pairs_from_rows

DEFAULT_K: Final = 10


def own_relation(name: str, pairs: Iterable[tuple[str, str]], *, k: int = DEFAULT_K) -> Relation:
    """Pairs of (source, target) words as an operation; several targets of one source are alternatives.

    Raises BadRelationFile, every bad pair by its number.
    """
    where = f"the pairs of {name!r}"
    rows = [Row(number, list(pair)) for number, pair in enumerate(pairs, 1)]
    return Relation(
        name=name,
        category=OWN_CATEGORY,
        description="Maps a word to the word paired with it.",
        k=k,
        pairs=merge_sources(pairs_from_rows(rows, where)),
        paper=False,
        inputs="sources",
        outputs="targets",
        provenance="Given in Python",
        licence="not stated",
    )
