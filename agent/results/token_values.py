"""Between rows of tokens and their JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maps_engine.results import MappingRow, ScoredToken


def row_values(rows: Sequence[MappingRow]) -> list[dict[str, Any]]:
    """The JSON values of rows, as `rows_of` reads them; built by hand, since `asdict` would copy every number."""
    return [
        {"token": row.token, "token_id": row.token_id, "salience": row.salience, "targets": scored_values(row.targets)}
        for row in rows
    ]


def rows_of(values: Sequence[dict[str, Any]]) -> tuple[MappingRow, ...]:
    """Rows from their JSON values."""
    return tuple(
        MappingRow(
            token=row["token"],
            token_id=row["token_id"],
            salience=row["salience"],
            targets=scored_of(row["targets"]),
        )
        for row in values
    )


def scored_values(scored: Sequence[ScoredToken]) -> list[dict[str, Any]]:
    """The JSON values of tokens with their scores."""
    return [{"token": one.token, "token_id": one.token_id, "score": one.score} for one in scored]


def scored_of(values: Sequence[Mapping[str, Any]]) -> tuple[ScoredToken, ...]:
    """Tokens with their scores from their JSON values."""
    return tuple(ScoredToken(one["token"], one["token_id"], one["score"]) for one in values)
