"""Relation scores as CSV and Parquet: one row an operation and head, text cells safe in spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agent.output.cells import safe_cell
from maps_engine.errors import UserMistake
from maps_engine.files import whole_file
from maps_engine.scores.table import ModelScores, RelationScores

COLUMNS: Final = (
    "model",
    "relation",
    "category",
    "k",
    "pairs",
    "used",
    "target",
    "verdict",
    "layer",
    "head",
    "source",
    "score",
    "null",
    "p",
    "suppression",
    "suppression_null",
    "suppression_p",
    "left_out",
)


def table_rows(scores: ModelScores) -> Iterator[dict[str, Any]]:
    """One dict an operation and head; an operation with too few pairs has one row without a head."""
    for one in scores.relations:
        common = {
            "model": scores.model,
            "source": scores.reading,
            "relation": one.name,
            "category": one.category,
            "k": one.k,
            "pairs": one.n_pairs,
            "used": one.n_used,
            "target": one.target,
            "verdict": one.verdict,
            "left_out": one.left_out,
        }
        empty = dict.fromkeys(COLUMNS)
        if one.score is None:
            yield empty | common
        for layer in range(scores.n_layers if one.score is not None else 0):
            for head in range(scores.n_heads):
                yield empty | common | {"layer": layer, "head": head} | _numbers(scores, one, layer, head)


def _numbers(scores: ModelScores, one: RelationScores, layer: int, head: int) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    sides = (
        ("", "score", one.score, one.promoting),
        ("suppression_", "suppression", one.suppression, one.suppressing),
    )
    for prefix, name, table, significance in sides:
        numbers[name] = None if table is None else round(float(table[layer, head]), 6)
        if significance is not None:
            numbers[f"{prefix}null"] = round(float(significance.null[layer, head]), 6)
            numbers[f"{prefix}p"] = float(significance.p[layer, head])
    return numbers


def write_csv(scores: ModelScores, path: Path) -> None:
    """UTF-8 with a header, comma separated."""
    with whole_file(path, parents=True) as whole, whole.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({key: safe_cell(value) for key, value in row.items()} for row in table_rows(scores))


def need_parquet() -> None:
    """Raise UserMistake unless Parquet can be written here."""
    try:
        import pyarrow  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: F401
    except ImportError as error:
        raise UserMistake(
            "writing Parquet needs pyarrow", next_step="Install headscribe[parquet], or use --csv."
        ) from error


def write_parquet(scores: ModelScores, path: Path) -> None:
    """The rows of the CSV with real types (layer and head as nullable integers). Needs the extra `parquet`."""
    need_parquet()
    import pandas as pd

    frame = pd.DataFrame(list(table_rows(scores)), columns=list(COLUMNS))
    frame = frame.astype({"layer": "Int32", "head": "Int32"})
    with whole_file(path, parents=True) as whole:
        frame.to_parquet(whole, engine="pyarrow", index=False)
