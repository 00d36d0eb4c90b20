"""Reads one head of a run for the head browser: its rows, description, scores and neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, and_, func, select
from sqlalchemy.orm import Session, aliased, joinedload, undefer

from agent.errors import UnknownRun
from agent.results import counted_unit
from agent.runs.database import reading
from agent.runs.records import DescriptionRecord, HeadRecord, RelationScoreRecord, RunRecord, SearchTermRecord
from eval.web.browser.browse_data import (
    HeadLine,
    ModelLine,
    RunLine,
    find_model,
    find_run,
    head_line,
    model_line,
    run_line,
)
from eval.web.browser.head_scores import scores_of
from maps_engine.results import SourceChoice


@dataclass(frozen=True)
class Similar:
    """Another head of the run by the tokens both read or promote (Jaccard index)."""

    layer: int
    head: int
    operation: str
    likeness: float


@dataclass(frozen=True)
class HeadDetail:
    """All of one head in one run."""

    model: ModelLine
    run: RunLine
    line: HeadLine
    rows: list[dict[str, Any]]
    suppressed_rows: list[dict[str, Any]]
    said: dict[str, Any] | None  # the description's columns
    test: dict[str, Any] | None
    relations: list[dict[str, Any]]
    similar: list[Similar]
    source: str  # representation that this head was read through; "auto" while it has no result
    source_choice: SourceChoice | None
    scores: list[dict[str, Any]]  # of the description, by `headscribe score`


def head_detail(engine: Engine, slug: str, layer: int, head: int, run_id: int | None = None) -> HeadDetail:
    """One head with everything known of it. Raises UnknownRun."""
    with reading(engine) as session:
        model = find_model(session, slug)
        run = find_run(session, model, run_id)
        query = (
            select(HeadRecord)
            .options(
                undefer(HeadRecord.rows),
                undefer(HeadRecord.suppressed_rows),
                joinedload(HeadRecord.description).joinedload(DescriptionRecord.test),
            )
            .where(HeadRecord.run_id == run.id, HeadRecord.layer == layer, HeadRecord.head == head)
        )
        record = session.scalar(query)
        if record is None:
            raise UnknownRun("no such head in this run", got=f"layer {layer}, head {head}")
        said = record.description
        return HeadDetail(
            model=model_line(session, model),
            run=run_line(session, run),
            line=head_line(record),
            rows=list(record.rows or []),
            suppressed_rows=list(record.suppressed_rows or []),
            said=None if said is None else _columns(said),
            test=said.test.details if said and said.test else None,
            relations=_relations(session, model.id, layer, head),
            similar=_similar(session, record),
            source=_source(run, said),
            source_choice=_source_choice(said),
            scores=scores_of(said),
        )


def _columns(said: DescriptionRecord) -> dict[str, Any]:
    names = "status operation category input_strings observed_pattern confidence reasoning reason raw_reply"
    names += " claims retrieved provenance created"
    values = {name: getattr(said, name) for name in names.split(" ")}
    return values | {"claims": [one | {"counted": counted_unit(one["kind"])} for one in said.claims]}


def _source(run: RunRecord, said: DescriptionRecord | None) -> str:
    """The run may say "auto"; the description knows what was chosen."""
    made_with = (said.provenance.get("settings") or {}) if said is not None else {}
    return str(made_with.get("source") or run.settings["engine"]["source"])


def _source_choice(said: DescriptionRecord | None) -> SourceChoice | None:
    stored = said.provenance.get("source_choice") if said is not None else None
    return SourceChoice.from_json(stored) if stored else None


def _relations(session: Session, model_id: int, layer: int, head: int) -> list[dict[str, Any]]:
    query = (
        select(RelationScoreRecord)
        .where(
            RelationScoreRecord.model_id == model_id,
            RelationScoreRecord.layer == layer,
            RelationScoreRecord.head == head,
        )
        .order_by(RelationScoreRecord.score.desc(), RelationScoreRecord.relation)
    )
    names = ("relation", "category", "score", "suppression", "source", "k", "n_pairs")
    return [{name: getattr(record, name) for name in names} for record in session.scalars(query)]


def _similar(session: Session, record: HeadRecord, limit: int = 8) -> list[Similar]:
    """Heads that read or promote most of the same tokens."""
    mine, theirs = aliased(SearchTermRecord), aliased(SearchTermRecord)
    shared = func.count()
    query = (
        select(theirs.head_id, shared)
        .join(mine, and_(mine.run_id == theirs.run_id, mine.term == theirs.term, mine.side == theirs.side))
        .where(
            mine.head_id == record.id,
            mine.side.in_(("source", "target")),
            theirs.run_id == record.run_id,
            theirs.head_id != record.id,
        )
        .group_by(theirs.head_id)
        .order_by(shared.desc())
        .limit(3 * limit)
    )
    counts = {head_id: int(n) for head_id, n in session.execute(query)}
    heads = select(HeadRecord).options(joinedload(HeadRecord.description)).where(HeadRecord.id.in_(counts))
    found = [
        Similar(
            h.layer,
            h.head,
            h.description.operation if h.description else "",
            counts[h.id] / max(1, h.n_terms + record.n_terms - counts[h.id]),
        )
        for h in session.scalars(heads)
    ]
    return sorted(found, key=lambda s: (-s.likeness, s.layer, s.head))[:limit]
