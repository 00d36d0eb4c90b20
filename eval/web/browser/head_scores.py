"""Stored scores of one description (`headscribe score`), as the head page and its JSON show them."""

from __future__ import annotations

from typing import Any

from agent.runs.records import DescriptionRecord
from agent.runs.tables import SCORE_COLUMNS


def scores_of(said: DescriptionRecord | None) -> list[dict[str, Any]]:
    """One line a scorer and judge, the newest where several settings are stored."""
    stored = sorted(said.scores, key=lambda one: (one.created, one.id)) if said is not None else []
    newest = {(one.scorer, one.judge): one for one in stored}
    lines = (
        {name: getattr(one, name) for name in SCORE_COLUMNS}
        | {"same_operation": bool(one.details.get("same_operation"))}
        for one in newest.values()
    )
    return sorted(lines, key=lambda line: (line["scorer"], line["judge"]))
