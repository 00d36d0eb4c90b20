"""Reads for the head browser: models, and the grid of a run (`head_data` reads one head)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.errors import UnknownRun
from agent.runs.database import reading
from agent.runs.records import HeadRecord, ModelRecord, RelationScoreRecord, RunRecord
from agent.runs.relation_scores import RelationReading, relation_readings
from agent.runs.state import RunCounts, counts_in, newest_run
from agent.runs.stored import StoredLine, head_lines, line_of, reading_of
from maps_engine.finite import finite
from maps_engine.results import HeadAttention


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

    @property
    def reading(self) -> str:
        """For people: what its heads were given to read."""
        return reading_of(self.settings["engine"])


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
    operations: tuple[str, ...]  # that tests support, by name, as `agent.runs.head_rows.operation_names_of` has them
    attention: HeadAttention | None = None  # without its words

    @property
    def others(self) -> tuple[str, ...]:
        """What tests support besides the recorded description."""
        return tuple(name for name in self.operations if name != self.operation)

    @property
    def n_operations(self) -> int | None:
        """How many operations tests support; None where there is no answer of a describer."""
        return len(self.operations) if self.status in ("ok", "unclear") else None


def models(engine: Engine) -> list[ModelLine]:
    """All models by name."""
    with reading(engine) as session:
        found = session.scalars(select(ModelRecord).order_by(ModelRecord.name)).all()
        return [model_line(session, model) for model in found]


def find_model(session: Session, slug: str) -> ModelRecord:
    """The model of that address. Raises UnknownRun."""
    model = session.scalar(select(ModelRecord).where(ModelRecord.slug == slug))
    if model is None:
        raise UnknownRun("no such model in the database", got=slug[:100], next_step="Label its heads first.")
    return model


def find_run(session: Session, model: ModelRecord, run_id: int | None) -> RunRecord:
    """The run asked for, else the model's newest (`agent.runs.state.newest_run`). Raises UnknownRun."""
    of_model = RunRecord.model_id == model.id
    if run_id is None:
        run = newest_run(session, of_model)
    else:
        run = session.scalar(select(RunRecord).where(of_model, RunRecord.id == run_id))
    if run is None:
        raise UnknownRun("this model has no such run with results", got=run_id)
    return run


def model_line(session: Session, model: ModelRecord) -> ModelLine:
    """A model with its newest run that has results, if any."""
    names = ("slug", "name", "fingerprint", "n_layers", "n_heads", "n_value_heads", "d_model", "vocab_size")
    values = {name: getattr(model, name) for name in names}
    try:
        run = find_run(session, model, None)
    except UnknownRun:
        return ModelLine(**values, model_id=model.id, run_id=None, counts=None)
    return ModelLine(**values, model_id=model.id, run_id=run.id, counts=counts_in(session, run.id))


def run_line(session: Session, run: RunRecord) -> RunLine:
    """A run with how many of its heads are done."""
    done = counts_in(session, run.id).done
    return RunLine(run.id, run.describer, run.state, run.started, run.settings, done)


@dataclass(frozen=True)
class ModelGrid:
    """A model page: its runs, one run's heads, and the relations that were scored."""

    model: ModelLine
    run: RunLine
    runs: tuple[RunLine, ...]
    heads: tuple[HeadLine, ...]
    relations: dict[str, RelationReading]  # that were scored, with k and source


def model_grid(engine: Engine, slug: str, run_id: int | None = None) -> ModelGrid:
    """Everything of the model page but relation scores. Raises UnknownRun."""
    with reading(engine) as session:
        model = find_model(session, slug)
        run = find_run(session, model, run_id)
        runs = session.scalars(
            select(RunRecord).where(RunRecord.model_id == model.id).order_by(RunRecord.id.desc())
        ).all()
        found = (
            model_line(session, model),
            run_line(session, run),
            tuple(run_line(session, r) for r in runs),
            tuple(lines_of(session, run)),
        )
    return ModelGrid(*found, relation_readings(engine, found[0].model_id))


def lines_of(session: Session, run: RunRecord, ids: Sequence[int] | None = None) -> list[HeadLine]:
    """Heads of a run (of those `ids`; None: all) in order of layer and head."""
    query = head_lines(run.id) if ids is None else head_lines(run.id).where(HeadRecord.id.in_(ids))
    return [shown_line(line_of(record, run)) for record in session.scalars(query)]


def shown_line(stored: StoredLine) -> HeadLine:
    """What grids and lists say of one head."""
    pairs = stored.test.pairs if stored.test else None
    return HeadLine(
        layer=stored.layer,
        head=stored.head,
        status=stored.status,
        operation=stored.operation,
        category=stored.category,
        confidence=stored.confidence if stored.status == "ok" else None,
        score=finite(pairs.score) if pairs else None,
        percentile=finite(pairs.percentile) if pairs else None,
        salience=stored.max_salience,
        operations=stored.operation_names,
        attention=stored.attention,
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
