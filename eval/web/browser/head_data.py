"""Reads one head of a run for the head browser: its rows, description, scores and neighbours."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sqlalchemy import Engine, and_, func, select
from sqlalchemy.orm import Session, aliased, joinedload

from agent.errors import UnknownRun
from agent.results.outcomes import TestResult
from agent.runs.database import reading
from agent.runs.records import HeadRecord, ModelRecord, RelationScoreRecord, RunRecord, SearchTermRecord
from agent.runs.stored import StoredHead, StoredScore, head_of, whole_heads
from eval.web.browser.browse_data import (
    HeadLine,
    ModelLine,
    RunLine,
    find_model,
    find_run,
    model_line,
    run_line,
    shown_line,
)
from maps_engine.results import MappingRow


@dataclass(frozen=True)
class Similar:
    """Another head of the run by the tokens both read or promote (Jaccard index)."""

    layer: int
    head: int
    operation: str
    likeness: float


@dataclass(frozen=True)
class HeadRelation:
    """Relation scores of the head for one operation (0 … 1), and the settings they were made with."""

    relation: str
    category: str
    score: float
    suppression: float
    source: str | None
    k: int
    n_pairs: int


@dataclass(frozen=True)
class HeadDetail:
    """All of one head in one run; the properties are what pages show of `stored`."""

    model: ModelLine
    run: RunLine
    line: HeadLine
    stored: StoredHead
    relations: tuple[HeadRelation, ...]  # best first
    similar: tuple[Similar, ...]

    @property
    def said(self) -> StoredHead | None:
        """The head with its description, or None while it has none."""
        return self.stored if self.stored.described else None

    @property
    def rows(self) -> tuple[MappingRow, ...]:
        return self.stored.rows

    @property
    def suppressed_rows(self) -> tuple[MappingRow, ...]:
        return self.stored.suppressed_rows

    @property
    def test(self) -> TestResult | None:
        return self.stored.test

    @property
    def source(self) -> str:
        """The representation that this head was read through; "auto" while it has no result."""
        return self.stored.settings.source

    @property
    def scores(self) -> list[StoredScore]:
        """One a scorer and judge, the newest where several settings are stored."""
        newest = {(one.scorer, one.judge): one for one in sorted(self.stored.scores, key=lambda one: one.created)}
        return [newest[key] for key in sorted(newest)]


def head_detail(engine: Engine, slug: str, layer: int, head: int, run_id: int | None = None) -> HeadDetail:
    """One head with everything known of it, of the run asked for, else of the newest that described it.

    Raises UnknownRun.
    """
    with reading(engine) as session:
        model = find_model(session, slug)
        run = _newest_of_head(session, model, layer, head) if run_id is None else None
        run = run or find_run(session, model, run_id)
        record = session.scalar(whole_heads(run.id).where(HeadRecord.layer == layer, HeadRecord.head == head))
        if record is None:
            raise UnknownRun("no such head in this run", got=f"layer {layer}, head {head}")
        stored = head_of(record, run)
        return HeadDetail(
            model=model_line(session, model),
            run=run_line(session, run),
            line=shown_line(stored),
            stored=stored,
            relations=_relations(session, model.id, layer, head),
            similar=tuple(_similar(session, record)),
        )


def _newest_of_head(session: Session, model: ModelRecord, layer: int, head: int) -> RunRecord | None:
    place = (HeadRecord.layer == layer, HeadRecord.head == head, HeadRecord.state == "done")
    described = select(HeadRecord.run_id).where(*place)
    query = select(RunRecord).where(RunRecord.model_id == model.id, RunRecord.id.in_(described))
    return session.scalar(query.order_by(RunRecord.id.desc()).limit(1))


def _relations(session: Session, model_id: int, layer: int, head: int) -> tuple[HeadRelation, ...]:
    record = RelationScoreRecord
    query = (
        select(record)
        .where(record.model_id == model_id, record.layer == layer, record.head == head)
        .order_by(record.score.desc(), record.relation)
    )
    names = [field.name for field in fields(HeadRelation)]
    return tuple(HeadRelation(**{name: getattr(one, name) for name in names}) for one in session.scalars(query))


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
