"""Which operations a command scores: names of the catalogue, "paper", "all", and the user's own files of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from maps_engine.errors import UserMistake
from maps_engine.relations.catalogue import load_relations, read_pairs
from maps_engine.relations.format import Relation


def choose_relations(asked: str | None, pair_files: Sequence[Path] = (), *, k: int | None = None) -> list[Relation]:
    """The operations named by `asked` (comma separated), and those of `pair_files`.

    With files and nothing asked, only the files; with neither, the whole catalogue. Names must be unique.
    """
    names = [part.strip() for part in (asked or "").split(",") if part.strip()]
    if not names and not pair_files:
        names = ["all"]
    chosen = _from_catalogue(names)
    for path in pair_files:
        chosen += read_pairs(path, k=k or 10)
    twice = [name for name, n in Counter(one.name for one in chosen).items() if n > 1]
    if twice:
        raise UserMistake(
            "two operations have the same name",
            got=", ".join(twice),
            next_step="Rename the file of pairs, or leave the built-in operation out.",
        )
    return chosen


def _from_catalogue(names: Sequence[str]) -> list[Relation]:
    if "all" in names:
        return list(load_relations())
    found: dict[str, Relation] = {}
    if "paper" in names:
        found = {one.name: one for one in load_relations() if one.paper}
    named = [name for name in names if name != "paper"]
    return list((found | {one.name: one for one in load_relations(named)}).values()) if named else list(found.values())
