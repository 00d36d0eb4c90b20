"""Relation scores of a model in the database, and the settings they were made with: source representation and k."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import Engine, select

from agent.runs.database import reading, writing
from agent.runs.identity import content_hash
from agent.runs.records import RelationScoreRecord
from maps_engine.results import EngineSettings


@dataclass(frozen=True)
class RelationScore:
    """phi_R and its suppression twin of one head."""

    relation: str
    category: str
    layer: int
    head: int
    score: float
    suppression: float
    k: int
    n_pairs: int


@dataclass(frozen=True)
class RelationReading:
    """How one operation was scored; `source` is None where the record does not say (stored before 0004)."""

    source: str | None
    k: int
    n_pairs: int


def store_relation_scores(
    engine: Engine, model_id: int, scores: Iterable[RelationScore], *, settings: EngineSettings
) -> int:
    """Keep relation scores of a model; those of the same relations go, whatever they were read through.

    Returns how many.
    """
    settings_hash = content_hash(settings.to_json())
    rows = [asdict(score) for score in scores]
    with writing(engine) as session:
        for relation in sorted({row["relation"] for row in rows}):
            old = select(RelationScoreRecord).where(
                RelationScoreRecord.model_id == model_id, RelationScoreRecord.relation == relation
            )
            for record in session.scalars(old):
                session.delete(record)
        session.flush()
        whose = {"model_id": model_id, "settings_hash": settings_hash, "source": settings.source}
        session.add_all(RelationScoreRecord(**whose, **row) for row in rows)
    return len(rows)


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
