"""With which settings the stored relation scores of a model were made: source representation and k."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, select

from agent.runs.database import reading
from agent.runs.records import RelationScoreRecord


@dataclass(frozen=True)
class RelationReading:
    """How one operation was scored; `source` is None where the record does not say (stored before 0004)."""

    source: str | None
    k: int
    n_pairs: int


def relation_readings(engine: Engine, model_id: int) -> dict[str, RelationReading]:
    """Operation -> how it was scored, by name; all heads of an operation are stored together."""
    record = RelationScoreRecord
    query = select(record.relation, record.source, record.k, record.n_pairs).where(record.model_id == model_id)
    with reading(engine) as session:
        found = session.execute(query.distinct().order_by(record.relation))
        return {name: RelationReading(source, k, n_pairs) for name, source, k, n_pairs in found}


def replaced_text(before: Mapping[str, RelationReading], after: Mapping[str, RelationReading]) -> str:
    """What storing `after` over `before` replaced, in one line; empty where it only added."""
    replaced = sorted(before.keys() & after.keys())
    if not replaced:
        return ""
    changed = [name for name in replaced if _settings(before[name]) != _settings(after[name])]
    text = f"{len(replaced)} operations replaced stored scores"
    if not changed:
        return text + " with the same settings"
    old, new = (_words([one[name] for name in changed]) for one in (before, after))
    return f"{text}, {len(changed)} with other settings: {old}; now {new}"


def _settings(one: RelationReading) -> tuple[str | None, int]:
    return one.source, one.k


def _words(found: list[RelationReading]) -> str:
    sources = sorted({one.source or "unknown" for one in found})
    ks = sorted({one.k for one in found})
    return f"source {', '.join(sources)}, k {', '.join(map(str, ks))}"
