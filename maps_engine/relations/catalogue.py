"""The catalogue of known operations, and the user's own pairs in the same form.

Used to score heads (docs/method.md, "Operation to heads: the relation score"), to name them by example mappings, and to
test descriptions.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from maps_engine.errors import BadRelationFile, UserMistake
from maps_engine.relations.format import (
    OWN_CATEGORY,
    Relation,
    Row,
    json_array_rows,
    merge_sources,
    pairs_from_rows,
    relation_from_object,
)
from maps_engine.relations.thresholds import DEFAULT_K

__all__ = ["SUFFIXES", "Relation", "built_in_names", "load_relations", "read_pairs", "read_pairs_file"]

SUFFIXES: Final = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
MAX_BYTES: Final = 64 * 2**20
_HEADERS: Final = ({"source", "target"}, {"source", "targets"}, {"input", "output"}, {"inputs", "outputs"})


def load_relations(names: Iterable[str] | None = None) -> tuple[Relation, ...]:
    """The built-in operations, the paper's 20 first; or those of `names`, in the order asked for.

    Raises UserMistake for a name that is not there.
    """
    if names is None:
        everything = (_built_in(name) for name in built_in_names())
        return tuple(sorted(everything, key=lambda relation: (not relation.paper, relation.name)))
    known = built_in_names()
    asked = list(dict.fromkeys([names] if isinstance(names, str) else names))
    unknown = [name for name in asked if name not in known]
    if unknown:
        close = [match for name in unknown for match in _close_names(name, known)]
        raise UserMistake(
            "unknown relation" if len(unknown) == 1 else "unknown relations",
            got=", ".join(unknown),
            expected=f"one of the {len(known)} built-in relations",
            next_step=(f"Did you mean {', '.join(dict.fromkeys(close))}? " if close else "")
            + "`headscribe operations list` names them all.",
        )
    return tuple(_built_in(name) for name in asked)


def read_pairs_file(path: Path, *, k: int = DEFAULT_K) -> Relation:
    """One operation from a JSON, JSON lines, CSV or TSV file; `k` holds where the file itself says none.

    Rows are (source, target), (source, [targets]) or, in CSV and TSV, (source, target, further targets…).
    Rows of the same source are merged. Words are stripped of surrounding spaces. Raises UserMistake for a `k` below 1,
    BadRelationFile for a file that cannot be read or has bad rows.
    """
    if k < 1:
        raise UserMistake("k cannot be below 1", got=k, expected="a whole number from 1")
    defaults = _user_defaults(path, k)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadRelationFile(
            f"cannot tell the format of {path.name}", got=suffix or "no suffix", expected=", ".join(SUFFIXES)
        )
    text = _read_text(path)
    try:
        relation = _parse(text, suffix, defaults, path.name)
    except RecursionError as error:
        raise BadRelationFile(f"{path.name} is nested too deeply", expected="a list of pairs") from error
    except csv.Error as error:
        raise BadRelationFile(f"{path.name} cannot be read as a table", got=error) from error
    except json.JSONDecodeError as error:
        raise BadRelationFile(
            f"{path.name} breaks as JSON at line {error.lineno}, column {error.colno}", got=error.msg
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise BadRelationFile(f"{path.name} cannot be read as JSON", got=error) from error
    pairs = merge_sources(relation.pairs)
    return replace(relation, pairs=pairs, own=True, joined=relation.n_pairs - len(pairs))


def read_pairs(path: Path, *, k: int = DEFAULT_K) -> tuple[Relation, ...]:
    """The operations of one file, or of every file of a known suffix in a folder, by file name.

    Raises as `read_pairs_file`, and BadRelationFile for an empty folder or two files of one name.
    """
    if not path.is_dir():
        return (read_pairs_file(path, k=k),)
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        raise BadRelationFile(f"no files of pairs in {path}", expected=", ".join(SUFFIXES))
    owner: dict[str, Path] = {}
    relations = []
    for file in found:
        relation = read_pairs_file(file, k=k)
        if relation.name in owner:
            raise BadRelationFile(
                f"two files give the relation {relation.name}",
                got=f"{owner[relation.name].name} and {file.name}",
                next_step="Rename one of them.",
            )
        owner[relation.name] = file
        relations.append(relation)
    return tuple(relations)


@cache
def built_in_names() -> tuple[str, ...]:
    """Names of the built-in operations, sorted; nothing is read but the list of files."""
    entries = (files("maps_engine.relations") / "relation_sets").iterdir()
    return tuple(sorted(entry.name.removesuffix(".json") for entry in entries if entry.name.endswith(".json")))


@cache
def _built_in(name: str) -> Relation:
    entry = files("maps_engine.relations") / "relation_sets" / f"{name}.json"
    return _parse_json(entry.read_text("utf-8"), _defaults(name, entry.name, 10), entry.name)


def _close_names(name: str, known: Iterable[str]) -> list[str]:
    """Names that are spelled like `name` or hold all of its parts."""
    names = list(known)
    parts = [part for part in re.split(r"[^a-z]+", name.lower()) if part not in {"", "to"}]
    holding = [other for other in names if parts and all(part in other for part in parts)]
    return list(dict.fromkeys(difflib.get_close_matches(name.lower(), names, n=3) + holding))[:5]


def _defaults(name: str, file_name: str, k: int) -> Relation:
    return Relation(
        name=name,
        category=OWN_CATEGORY,
        description=f"Maps a word to the word paired with it in {file_name}.",
        k=k,
        pairs=(),
        paper=False,
        inputs="sources",
        outputs="targets",
        provenance=f"User's file {file_name}",
        licence="not stated",
    )


def _user_defaults(path: Path, k: int) -> Relation:
    name = re.sub(r"[\W_]+", "-", path.stem.lower()).strip("-") or "pairs"
    return _defaults(name, path.name, k)


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadRelationFile(f"{path.name} is too large", got=f"{size} bytes", expected=f"up to {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise BadRelationFile(f"cannot read {path}", got=error.strerror) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadRelationFile(
            f"{path.name} is not UTF-8 text", got=f"byte 0x{data[error.start]:02x} in line {line}"
        ) from error


def _parse(text: str, suffix: str, defaults: Relation, where: str) -> Relation:
    if suffix == ".json":
        return _parse_json(text, defaults, where)
    rows = _json_lines(text) if suffix in {".jsonl", ".ndjson"} else _table_rows(text, suffix)
    return replace(defaults, pairs=pairs_from_rows(rows, where))


def _parse_json(text: str, defaults: Relation, where: str) -> Relation:
    whole = json.loads(text)
    if isinstance(whole, list):
        return replace(defaults, pairs=pairs_from_rows(json_array_rows(text, text.index("[")), where))
    if not isinstance(whole, dict) or not isinstance(whole.get("pairs"), list):
        raise BadRelationFile(
            f"no pairs in {where}",
            got=f"a JSON {type(whole).__name__}",
            expected='a list of pairs or {"pairs": [...]}',
        )
    start = re.compile(r'"pairs"\s*:\s*(?=\[)')
    match = start.search(text)
    rows: Iterable[Row] = json_array_rows(text, match.end()) if match else _unlocated(whole["pairs"])
    return relation_from_object(whole, rows, defaults, where)


def _unlocated(items: list[Any]) -> Iterator[Row]:
    """Rows of a list whose place in the text is unknown (the key was written with escapes)."""
    return (Row(number, item) for number, item in enumerate(items, 1))


def _json_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield Row(number, json.loads(line))
            except json.JSONDecodeError as error:
                raise json.JSONDecodeError(error.msg, text, _offset(text, number) + error.pos) from error


def _offset(text: str, line: int) -> int:
    return sum(len(part) + 1 for part in text.split("\n", line - 1)[: line - 1])


def _table_rows(text: str, suffix: str) -> Iterator[Row]:
    """CSV with quotes, TSV without; a first row `source,target` or `input,output` is a header."""
    head = text.lstrip().split("\n", 1)[0]
    delimiter = "\t" if suffix == ".tsv" else ";" if ";" in head and "," not in head else ","
    stream = io.StringIO(text, newline="")
    if suffix == ".tsv":
        reader = csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
    line, first = 1, True
    for cells in reader:
        start, line = line, reader.line_num + 1
        while cells and not cells[-1].strip():
            cells.pop()
        if not cells or (first and {cell.strip().lower() for cell in cells[:2]} in _HEADERS):
            first = first and not cells
            continue
        first = False
        yield Row(start, list(cells))
