"""An operation on disk: our own JSON format, and rows of (source, target), bad rows named by their line.

Own format: one JSON object with the fields of `Relation`; `pairs` is a list of `["France", "Paris"]` or
`["Belgium", ["Dutch", "French"]]`. Words stand without the leading space that tokenizers put before them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias

from maps_engine.errors import BadRelationFile

Pair: TypeAlias = tuple[str, tuple[str, ...]]

CATEGORIES: Final = ("algorithmic", "knowledge", "linguistic", "translation")  # the paper's four
OWN_CATEGORY: Final = "own"  # pairs brought by the user
MAX_LISTED: Final = 5  # bad rows spelled out in one message
_NO_SETTINGS: Final = frozenset({"pairs", "own", "joined"})  # fields of `Relation` that a file does not set by name
_JSON_SPACE = re.compile(r"[ \t\r\n]*")
_TYPES: Final[Mapping[str, type]] = {"int": int, "bool": bool, "str": str}


@dataclass(frozen=True, slots=True)
class Relation:
    """One known operation: pairs of words and how a head that does it should be described.

    `pairs` holds (source, acceptable targets); a head gets a pair right when any target is in the top `k`.
    `source_space` and `target_space` say whether words are read with a leading space (docs/method.md, "Operation to
    heads: the relation score").
    """

    name: str
    category: str
    description: str
    k: int
    pairs: tuple[Pair, ...]
    paper: bool
    inputs: str
    outputs: str
    provenance: str
    licence: str
    source_space: bool = True
    target_space: bool = True
    identity: bool = False  # targets are the sources themselves: copying
    own: bool = False  # read from a file of the user's: every pair that can be encoded counts
    joined: int = 0  # rows of that file whose targets went to an earlier row of the same source

    @property
    def n_pairs(self) -> int:
        """Number of pairs, before a tokenizer leaves any out."""
        return len(self.pairs)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: the line it starts at, counted from 1, and what was read there."""

    line: int
    cells: Any


def clean_word(word: object) -> str:
    """The word in NFC without surrounding spaces. Raises ValueError, which says what is wrong with it."""
    if not isinstance(word, str):
        raise ValueError(f"{_shown(word)} is not a text")
    text = unicodedata.normalize("NFC", word).strip()
    if not text:
        raise ValueError("an empty word")
    if not text.isprintable() and any(unicodedata.category(char) in {"Cc", "Cs"} for char in text):
        raise ValueError(f"{_shown(text)} holds a control character")
    return text


def pair_from_cells(cells: object) -> Pair:
    """The pair in `[source, target]`, `[source, [targets]]`, `[source, t1, t2]` or `{"source", "target"}`.

    Raises ValueError, which says what is wrong.
    """
    if isinstance(cells, dict):
        wanted = {"source", "target", "targets"}
        if set(cells) - wanted or "source" not in cells or len(cells) != 2:
            raise ValueError(f'{_shown(cells)} has other keys than "source" and "target"')
        cells = [cells["source"], cells.get("target", cells.get("targets"))]
    if not isinstance(cells, list) or len(cells) < 2:
        raise ValueError(f"{_shown(cells)} is not a source and a target")
    rest = cells[1] if len(cells) == 2 and isinstance(cells[1], list) else cells[1:]
    if not rest:
        raise ValueError(f"{_shown(cells)} has no target")
    return clean_word(cells[0]), tuple(dict.fromkeys(clean_word(word) for word in rest))


def pairs_from_rows(rows: Iterable[Row], where: str) -> tuple[Pair, ...]:
    """All pairs of a file in order. Raises one BadRelationFile that names the bad rows by their lines."""
    pairs: list[Pair] = []
    bad: list[str] = []
    for row in rows:
        try:
            pairs.append(pair_from_cells(row.cells))
        except ValueError as error:
            bad.append(f"line {row.line}: {error}")
    if bad:
        more = f" and {len(bad) - MAX_LISTED} more" if len(bad) > MAX_LISTED else ""
        raise BadRelationFile(
            f"{len(bad)} bad row{'s' if len(bad) > 1 else ''} in {where}",
            got="; ".join(bad[:MAX_LISTED]) + more,
            expected='["France", "Paris"] or ["Belgium", ["Dutch", "French"]]',
        )
    if not pairs:
        raise BadRelationFile(f"no pairs in {where}", expected="at least one source and target")
    return tuple(pairs)


def merge_sources(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """One entry per source, in order of first appearance, with the targets of all its rows."""
    merged: dict[str, dict[str, None]] = {}
    for source, targets in pairs:
        merged.setdefault(source, {}).update(dict.fromkeys(targets))
    return tuple((source, tuple(targets)) for source, targets in merged.items())


def json_array_rows(text: str, start: int) -> Iterator[Row]:
    """The elements of the JSON array at `start`, each with its line. Raises JSONDecodeError where the JSON breaks."""
    decoder = json.JSONDecoder()
    position = _skip(text, start + 1)
    line = text.count("\n", 0, position) + 1
    if text[position : position + 1] == "]":
        return
    while True:
        cells, end = decoder.raw_decode(text, position)
        yield Row(line, cells)
        end = _skip(text, end)
        mark = text[end : end + 1]
        if mark == "]":
            return
        if mark != ",":
            raise json.JSONDecodeError("Expecting ',' or ']' delimiter", text, end)
        following = _skip(text, end + 1)
        line += text.count("\n", position, following)
        position = following


def relation_from_object(whole: Mapping[str, Any], rows: Iterable[Row], defaults: Relation, where: str) -> Relation:
    """A `Relation` in our own format; every field but `pairs` falls back to `defaults`. Raises BadRelationFile."""
    kinds = {field.name: str(field.type) for field in fields(Relation) if field.name not in _NO_SETTINGS}
    bad = [f"unknown field {_shown(name)}" for name in whole if name not in kinds and name != "pairs"]
    bad += [
        f"{name} must be {kind}, got {_shown(whole[name])}"
        for name, kind in kinds.items()
        if name in whole and type(whole[name]) is not _TYPES[kind]
    ]
    if type(whole.get("k", 1)) is int and whole.get("k", 1) < 1:
        bad.append(f"k must be at least 1, got {_shown(whole['k'])}")
    if bad:
        raise BadRelationFile(f"bad fields in {where}", got="; ".join(bad[:MAX_LISTED]), expected=", ".join(kinds))
    values = {name: whole.get(name, getattr(defaults, name)) for name in kinds}
    return Relation(pairs=pairs_from_rows(rows, where), **values)


def _skip(text: str, position: int) -> int:
    match = _JSON_SPACE.match(text, position)
    return match.end() if match else position


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
