"""Results of a run as files: JSON lines, CSV, Parquet, one HTML report. The suffix decides.

A file appears whole or not at all: it is written beside its place and moved there last.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Engine

from agent.errors import ExtraMissing
from agent.output.cells import safe_cell
from agent.results.outcomes import HeadOperation
from agent.runs.stored import StoredHead, stored_heads
from maps_engine.errors import UserMistake
from maps_engine.files import whole_file
from maps_engine.finite import finite
from maps_engine.qk.kinds import READINGS, kinds, reading, sentence
from maps_engine.results import HeadAttention, MappingRow

SHOWN_TOKENS = 15  # of a head, in one cell of a table
COLUMNS = (
    "model", "fingerprint", "run", "layer", "head", "source", "describer", "status", "operation", "category",
    "input_strings", "observed_pattern", "confidence", "reason", "reasoning", "verdict", "test_score",
    "test_percentile", "test_pairs", "rows_shown", "rows_held_out", "tokens", "retrieved",
    "constant_share", "constant_targets", "operations",
    *(f"attention.{name}" for name in READINGS), "attention.kinds", "attention.said",
)  # fmt: skip


def export_run(engine: Engine, run_id: int, path: Path) -> int:
    """Write the heads with a result to `path`; returns how many. Raises UserMistake, ExtraMissing, FileNotWritten."""
    write = _writer(path)
    with whole_file(path) as temporary:
        return write(engine, run_id, temporary)


def check_export(path: Path) -> None:
    """Refuse, before any work, what could not be written after it."""
    _writer(path)
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or path.is_dir():
        raise UserMistake("this file cannot be written", got=path, expected="a file in a folder with write access")


def _writer(path: Path) -> Callable[[Engine, int, Path], int]:
    writers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet, ".html": _html}
    write = writers.get(path.suffix.lower())
    if write is None:
        raise UserMistake("unknown kind of export", got=path.name, expected=", ".join(writers))
    if write is _parquet and find_spec("pyarrow") is None:
        raise ExtraMissing(
            "Parquet needs pyarrow", next_step="Install the extra: pip install 'headscribe[parquet]', or export .jsonl."
        )
    return write


def _jsonl(engine: Engine, run_id: int, path: Path) -> int:
    with path.open("w", encoding="ascii") as file:
        return sum(_line(file, head) for head in stored_heads(engine, run_id))


def _line(file: IO[str], head: StoredHead) -> int:
    file.write(json.dumps(finite(head.to_json()), ensure_ascii=True, allow_nan=False) + "\n")
    return 1


def _csv(engine: Engine, run_id: int, path: Path) -> int:
    n = 0
    with path.open("w", encoding="utf-8-sig", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in flat_rows(stored_heads(engine, run_id)):
            writer.writerow([safe_cell(row[name]) for name in COLUMNS])
            n += 1
    return n


def _parquet(engine: Engine, run_id: int, path: Path) -> int:
    import pyarrow
    import pyarrow.parquet

    rows = [{name: _encodable(row[name]) for name in COLUMNS} for row in flat_rows(stored_heads(engine, run_id))]
    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    shares = [f"attention.{name}" for name in READINGS]
    numbers = dict.fromkeys(("confidence", "test_score", "test_percentile", "constant_share", *shares), number)
    wholes = dict.fromkeys(("run", "layer", "head", "test_pairs"), whole)
    schema = pyarrow.schema([(name, (numbers | wholes).get(name, text)) for name in COLUMNS])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)
    return len(rows)


def _html(engine: Engine, run_id: int, path: Path) -> int:
    from agent.output.run_report import write_report

    return write_report(engine, run_id, path)


def flat_rows(heads: Iterable[StoredHead]) -> Iterator[dict[str, Any]]:
    """One row of plain values a head, with COLUMNS as keys."""
    from maps_engine.checkpoints.token_spelling import visible

    for head in heads:
        pairs, part = head.test.pairs if head.test else None, head.constant
        rows = head.test.rows if head.test else None
        values = {
            "source": head.source,
            "verdict": head.verdict,
            "test_score": pairs.score if pairs else None,
            "test_percentile": pairs.percentile if pairs else None,
            "test_pairs": pairs.n_pairs if pairs else None,
            "rows_shown": f"{rows.shown_k} of {rows.shown_n}" if rows else None,
            "rows_held_out": f"{rows.held_out_k} of {rows.held_out_n}" if rows else None,
            "tokens": " ".join(map(_pair, head.rows[:SHOWN_TOKENS])),
            "constant_share": part.share if part else None,
            "constant_targets": " ".join(visible(one.token) for one in part.targets) if part else None,
            "operations": "; ".join(map(_operation, head.operations)),
            "retrieved": "; ".join(one.operation for one in head.retrieved if one.part is None),
        }
        values |= _attention(head.attention)
        yield {name: values[name] if name in values else getattr(head, name) for name in COLUMNS}


def _attention(head: HeadAttention | None) -> dict[str, Any]:
    shares = {f"attention.{name}": reading(head, name) if head else None for name in READINGS}
    said = {"attention.kinds": "; ".join(kinds(head)), "attention.said": sentence(head)} if head else {}
    return {"attention.kinds": None, "attention.said": None} | shares | said


def _operation(one: HeadOperation) -> str:
    """With its other names and the score of its test."""
    name = f"{one.operation} {one.also_said}".rstrip()
    return f"{name} ({one.test.pairs.score:.2f})" if one.test.pairs else name


def _pair(row: MappingRow) -> str:
    from maps_engine.checkpoints.token_spelling import visible

    best = row.targets[0].token if row.targets else ""
    return f"{visible(row.token)}→{visible(best)}"


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
