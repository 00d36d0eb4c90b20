"""Hard negatives: the same sources, another head's targets.

With the weights at hand, the other head's row of that very source, read as that head's mapping was read. Without
them, the targets that the other head gives to a source of its own.
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
    """The row that `other` has for the source of `row`; `place` chooses a row of its own where there are no weights."""

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
    """A reader of real rows; every head is read once for all the sources asked of it."""

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
