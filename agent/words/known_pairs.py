"""Known operations as look-up tables: is this target an acceptable one for this source, or for any source?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from agent.words.spelling import core, plurals
from maps_engine.relations.catalogue import Relation

COPYING_RELATIONS: Final = frozenset({"copying", "name-copying"})
GENERAL: Final = frozenset({"word", "token", "term", "item", "thing"})  # on one side alone they name no class
UNTOLD: Final = frozenset({"a", "an", "the", "its", "their"})


@dataclass(frozen=True, slots=True)
class KnownPairs:
    """The pairs of one relation in casefold, ready for look-up."""

    relation: Relation
    targets_of: dict[str, frozenset[str]]
    all_targets: frozenset[str]

    @staticmethod
    def of(relation: Relation) -> KnownPairs:
        """The table of one relation; pairs that only copy are left out unless the relation is copying."""
        return _made(relation)

    def knows(self, source: str) -> bool:
        """Whether the source has targets here."""
        return core(source) in self.targets_of

    def holds(self, source: str, target: str) -> bool:
        """Whether (source, target) is one of the pairs, spacing and case aside."""
        return core(target) in self.targets_of.get(core(source), ())


@lru_cache(1024)  # claims ask for it row by row
def _made(relation: Relation) -> KnownPairs:
    table: dict[str, set[str]] = {}
    for source, targets in relation.pairs:
        kept = {core(t) for t in targets if relation.identity or core(t) != core(source)}
        if kept:
            table.setdefault(core(source), set()).update(kept)
    frozen = {source: frozenset(targets) for source, targets in table.items()}
    return KnownPairs(relation, frozen, frozenset().union(*frozen.values()) if frozen else frozenset())


def label_of(name: str) -> str:
    """`country-to-capital` as `country to capital`."""
    return name.replace("-", " ").replace("_", " ")


def tables(relations: Sequence[Relation]) -> tuple[KnownPairs, ...]:
    """Tables of all relations that have pairs."""
    return tuple(table for table in map(KnownPairs.of, relations) if table.targets_of)


def known_name(label: str, relations: Sequence[Relation]) -> str:
    """The label of the one relation that says the same as `label`, or `label` itself.

    "name-to-pronoun" is "first name to pronoun" where no other relation maps a kind of name to a kind of pronoun: on
    each side all words of the label, plurals and articles aside, stand in the relation's name. Language models put
    the name of a known operation in words of their own, and its own pairs then test it better than those they make.
    """
    wanted = _sides(label)
    if (
        not wanted
        or wanted[0] == wanted[1]
        or any(label_of(r.name) == " ".join(label_of(label).casefold().split()) for r in relations)
    ):
        return label
    alike = [r.name for r in relations if _within(wanted, _sides(r.name))]
    return label_of(alike[0]) if len(alike) == 1 else label


def _sides(name: str) -> tuple[list[str], list[str]] | None:
    """The words on both sides of "to", without articles; None where there are no two sides."""
    words = label_of(name).casefold().split()
    if words.count("to") != 1:
        return None
    place = words.index("to")
    left, right = ([w for w in part if w not in UNTOLD] for part in (words[:place], words[place + 1 :]))
    return (left, right) if left and right else None


def _within(wanted: tuple[list[str], list[str]], known: tuple[list[str], list[str]] | None) -> bool:
    return known is not None and all(map(_stands_in, wanted, known))


def _stands_in(told: list[str], known: list[str]) -> bool:
    def same(word: str, other: str) -> bool:
        return word == other or word in plurals(other)

    if all(any(same(word, general) for general in GENERAL) for word in told) and len(known) > len(told):
        return False
    return all(any(same(word, other) for other in known) for word in told)
