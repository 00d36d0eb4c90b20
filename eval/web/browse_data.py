"""Reads for the head browser: models, the grid of a run, one head with its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, and_, func, select
from sqlalchemy.orm import Session, aliased, joinedload, undefer

from agent.database import reading
from agent.errors import UnknownRun
from agent.records import (
    DescriptionRecord,
    HeadRecord,
    ModelRecord,
    RelationScoreRecord,
    RunRecord,
    SearchTermRecord,
)
from agent.results import counted_unit
from agent.run_store import RunCounts, counts_in
from eval.web.head_scores import scores_of
from maps_engine.results import SourceChoice


@dataclass(frozen=True)
class ModelLine:
    """A model with its newest run that has results."""

    slug: str
    name: str
    fingerprint: str
    n_layers: int
    n_heads: int
    n_value_heads: int
    d_model: int
    vocab_size: int
    model_id: int
    run_id: int | None
    counts: RunCounts | None


@dataclass(frozen=True)
class RunLine:
    """One run to choose from."""

    run_id: int
    describer: str
    state: str
    started: float
    settings: dict[str, Any]
    done: int


@dataclass(frozen=True)
class HeadLine:
    """One cell of the grid."""

    layer: int
    head: int
    status: str  # ok | unclear | failed | none
    operation: str
    category: str | None
    confidence: float | None
    score: float | None
    percentile: float | None
    salience: float | None


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
    scores: list[dict[str, Any]]  # of the description, by score-descriptions


def models(engine: Engine) -> list[ModelLine]:
    """All models by name."""
    with reading(engine) as session:
        found = session.scalars(select(ModelRecord).order_by(ModelRecord.name)).all()
        return [_model_line(session, model) for model in found]


def find_model(session: Session, slug: str) -> ModelRecord:
    """The model of that address. Raises UnknownRun."""
    model = session.scalar(select(ModelRecord).where(ModelRecord.slug == slug))
    if model is None:
        raise UnknownRun("no such model in the database", got=slug[:100], next_step="Label its heads first.")
    return model


def find_run(session: Session, model: ModelRecord, run_id: int | None) -> RunRecord:
    """The run asked for, else the model's newest run with a result. Raises UnknownRun."""
    query = select(RunRecord).where(RunRecord.model_id == model.id).order_by(RunRecord.id.desc())
    if run_id is not None:
        query = query.where(RunRecord.id == run_id)
    else:
        done = select(HeadRecord.run_id).where(HeadRecord.state == "done")
        query = query.where(RunRecord.id.in_(done))
    run = session.scalar(query.limit(1))
    if run is None:
        raise UnknownRun("this model has no such run with results", got=run_id)
    return run


def _model_line(session: Session, model: ModelRecord) -> ModelLine:
    names = ("slug", "name", "fingerprint", "n_layers", "n_heads", "n_value_heads", "d_model", "vocab_size")
    values = {name: getattr(model, name) for name in names}
    try:
        run = find_run(session, model, None)
    except UnknownRun:
        return ModelLine(**values, model_id=model.id, run_id=None, counts=None)
    return ModelLine(**values, model_id=model.id, run_id=run.id, counts=counts_in(session, run.id))


def _run_line(session: Session, run: RunRecord) -> RunLine:
    done = counts_in(session, run.id).done
    return RunLine(run.id, run.describer, run.state, run.started, run.settings, done)


@dataclass(frozen=True)
class ModelGrid:
    """A model page: its runs, one run's heads, and the relations that were scored."""

    model: ModelLine
    run: RunLine
    runs: tuple[RunLine, ...]
    heads: tuple[HeadLine, ...]
    relations: tuple[str, ...]


def model_grid(engine: Engine, slug: str, run_id: int | None = None) -> ModelGrid:
    """Everything of the model page but relation scores. Raises UnknownRun."""
    with reading(engine) as session:
        model = find_model(session, slug)
        run = find_run(session, model, run_id)
        runs = session.scalars(
            select(RunRecord).where(RunRecord.model_id == model.id).order_by(RunRecord.id.desc())
        ).all()
        names = session.scalars(
            select(RelationScoreRecord.relation)
            .where(RelationScoreRecord.model_id == model.id)
            .distinct()
            .order_by(RelationScoreRecord.relation)
        )
        return ModelGrid(
            _model_line(session, model),
            _run_line(session, run),
            tuple(_run_line(session, r) for r in runs),
            tuple(head_lines(session, run.id)),
            tuple(names),
        )


def head_lines(session: Session, run_id: int, ids: Sequence[int] | None = None) -> list[HeadLine]:
    query = (
        select(HeadRecord)
        .options(joinedload(HeadRecord.description).joinedload(DescriptionRecord.test))
        .where(HeadRecord.run_id == run_id)
        .order_by(HeadRecord.layer, HeadRecord.head)
    )
    if ids is not None:
        query = query.where(HeadRecord.id.in_(ids))
    return [_head_line(head) for head in session.scalars(query)]


def _head_line(head: HeadRecord) -> HeadLine:
    said = head.description
    if said is None:
        return HeadLine(head.layer, head.head, "none", "", None, None, None, None, head.max_salience)
    test = said.test
    return HeadLine(
        layer=head.layer,
        head=head.head,
        status=said.status,
        operation=said.operation,
        category=said.category,
        confidence=said.confidence if said.status == "ok" else None,
        score=test.score if test else None,
        percentile=test.percentile if test else None,
        salience=head.max_salience,
    )


def relation_values(
    engine: Engine, model_id: int, relation: str, *, suppression: bool = False
) -> dict[tuple[int, int], float]:
    """(layer, head) -> phi of one relation, or its suppression score."""
    column = RelationScoreRecord.suppression if suppression else RelationScoreRecord.score
    query = select(RelationScoreRecord.layer, RelationScoreRecord.head, column).where(
        RelationScoreRecord.model_id == model_id, RelationScoreRecord.relation == relation
    )
    with reading(engine) as session:
        return {(layer, head): value for layer, head, value in session.execute(query)}


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
            model=_model_line(session, model),
            run=_run_line(session, run),
            line=_head_line(record),
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
