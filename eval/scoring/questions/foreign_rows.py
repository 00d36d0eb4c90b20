"""Hard negatives: the head's own sources with another head's targets.

With the weights, the row that the other head has for that same source, read through the source representation of that
head's mapping. Without them, the targets that the other head gives to another source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from eval.scoring.results import HeadKey, Subject
from maps_engine.engine import MapsEngine
from maps_engine.results import MappingRow


@dataclass(frozen=True, slots=True)
class Wanted:
    """Asks for the row that `other` has for the source of `row`; without weights, `place` picks one of its own rows."""

    row: MappingRow
    other: Subject
    place: int


RowsOf = Callable[[Iterable[Wanted]], list[MappingRow]]


def borrowed_rows(wanted: Iterable[Wanted]) -> list[MappingRow]:
    """Each row with the targets of one of the other head's held-out rows (or shown rows, where it has none)."""
    found = []
    for one in wanted:
        rows = one.other.mapping.held_out_rows or one.other.mapping.rows
        found.append(replace(one.row, targets=rows[one.place % len(rows)].targets if rows else ()))
    return found


def rows_from_weights(engine: MapsEngine) -> RowsOf:
    """Rows as the weights have them; each head is read once for all the sources asked of it."""

    def read(wanted: Iterable[Wanted]) -> list[MappingRow]:
        asked = list(wanted)
        by_head: dict[HeadKey, list[int]] = defaultdict(list)
        for place, one in enumerate(asked):
            by_head[one.other.key].append(place)
        found: dict[int, MappingRow] = {}
        for key in sorted(by_head):
            places = by_head[key]
            at = engine.at(asked[places[0]].other.mapping.source)
            at.unembedding.hold()
            found.update(zip(places, at.rows_of(*key, [asked[place].row.token_id for place in places]), strict=True))
        return [found[place] for place in range(len(asked))]

    return read
