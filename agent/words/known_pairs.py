"""Known operations as look-up tables: is this target an acceptable one for this source, or for any source?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.words.spelling import core
from maps_engine.relations.catalogue import Relation

COPYING_RELATIONS: Final = frozenset({"copying", "name-copying"})


@dataclass(frozen=True, slots=True)
class KnownPairs:
    """The pairs of one relation in casefold, ready for look-up."""

    relation: Relation
    targets_of: dict[str, frozenset[str]]
    all_targets: frozenset[str]

    @classmethod
    def of(cls, relation: Relation) -> KnownPairs:
        """The table of one relation; pairs that only copy are left out unless the relation is copying."""
        table: dict[str, set[str]] = {}
        for source, targets in relation.pairs:
            kept = {core(t) for t in targets if relation.identity or core(t) != core(source)}
            if kept:
                table.setdefault(core(source), set()).update(kept)
        frozen = {source: frozenset(targets) for source, targets in table.items()}
        return cls(relation, frozen, frozenset().union(*frozen.values()) if frozen else frozenset())

    def knows(self, source: str) -> bool:
        """Whether the source has targets here."""
        return core(source) in self.targets_of

    def holds(self, source: str, target: str) -> bool:
        """Whether (source, target) is one of the pairs, spacing and case aside."""
        return core(target) in self.targets_of.get(core(source), ())


def label_of(name: str) -> str:
    """`country-to-capital` as `country to capital`."""
    return name.replace("-", " ").replace("_", " ")


def tables(relations: Sequence[Relation]) -> tuple[KnownPairs, ...]:
    """Tables of all relations that have pairs."""
    return tuple(table for table in map(KnownPairs.of, relations) if table.targets_of)
