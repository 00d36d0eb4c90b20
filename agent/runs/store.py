"""Runs in the database: open by identity, claim heads, record results, count.

Two processes on one run never label a head twice: a head is claimed with a lease, and a result is stored only
while its worker still holds the claim. Every function takes an Engine from `agent.runs.database.open_database`,
opens its own short transaction, and may raise DatabaseUnusable. `now` is for tests: seconds since 1970.
Listing, comparing, exporting and deleting are in `agent.runs.tables`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Engine, func, or_, select, update
from sqlalchemy.orm import Session

from agent.errors import UnknownRun
from agent.results import HeadReport
from agent.runs.database import alone, reading, writing
from agent.runs.head_rows import mapping_of, put_description, put_mapping
from agent.runs.identity import ModelCard, RunIdentity, content_hash
from agent.runs.records import (
    STATUSES,
    DescriptionRecord,
    HeadRecord,
    ModelRecord,
    RelationScoreRecord,
    RunRecord,
)
from maps_engine.results import EngineSettings, HeadMapping

LEASE_SECONDS = 600.0
STOPPING = "stopping"  # state of a run whose workers elsewhere are to finish what is in flight
HeadKey = tuple[int, int]  # layer, head


@dataclass(frozen=True)
class RunCounts:
    """Heads of a run: `ok + unclear + failed + claimed + waiting == total`."""

    total: int
    ok: int
    unclear: int
    failed: int
    claimed: int
    waiting: int

    @property
    def done(self) -> int:
        return self.ok + self.unclear + self.failed


@dataclass(frozen=True)
class OpenedRun:
    """A run to work on; `created` is False when the same identity was there already."""

    run_id: int
    model_id: int
    created: bool


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


def open_run(
    engine: Engine,
    *,
    card: ModelCard,
    identity: RunIdentity,
    heads: Iterable[HeadKey] | None = None,
    now: float | None = None,
) -> OpenedRun:
    """Find the run of this identity or create it, and make sure that it wants `heads` (None: all of the model).

    Heads that a later call adds join the run; heads that it leaves out stay as they are.
    """
    when = time.time() if now is None else now
    shape = card.shape
    wanted = set(heads) if heads is not None else _all_heads(shape.n_layers, shape.n_heads)
    with writing(engine) as session:
        alone(session)
        model = _find_or_add_model(session, card, when)
        run = session.scalar(select(RunRecord).where(RunRecord.identity == identity.hash()))
        created = run is None
        if run is None:
            run = _new_run(model, identity, when)
            session.add(run)
            session.flush()
        _want_heads(session, run, wanted)
        return OpenedRun(run.id, model.id, created)


def _all_heads(n_layers: int, n_heads: int) -> set[HeadKey]:
    return {(layer, head) for layer in range(n_layers) for head in range(n_heads)}


def _find_or_add_model(session: Session, card: ModelCard, when: float) -> ModelRecord:
    found = session.scalar(select(ModelRecord).where(ModelRecord.fingerprint == card.fingerprint))
    if found is not None:
        return found
    taken = session.scalar(select(ModelRecord.id).where(ModelRecord.slug == card.slug))
    slug = card.slug if taken is None else f"{card.slug}-{card.fingerprint[-8:].lower()}"
    model = ModelRecord(
        slug=slug,
        name=card.name,
        fingerprint=card.fingerprint,
        location=card.location,
        created=when,
        **asdict(card.shape),
    )
    session.add(model)
    session.flush()
    return model


def _new_run(model: ModelRecord, identity: RunIdentity, when: float) -> RunRecord:
    return RunRecord(
        identity=identity.hash(),
        model_id=model.id,
        settings=identity.settings(),
        describer=identity.describer,
        prompt_hash=identity.prompt_hash,
        state="running",
        started=when,
    )


def _want_heads(session: Session, run: RunRecord, wanted: set[HeadKey]) -> None:
    present = session.execute(select(HeadRecord.layer, HeadRecord.head).where(HeadRecord.run_id == run.id))
    missing = sorted(wanted - {(layer, head) for layer, head in present})
    session.add_all(HeadRecord(run_id=run.id, layer=layer, head=head) for layer, head in missing)
    if missing and run.state == "finished":
        run.state, run.finished = "running", None


def claim_heads(
    engine: Engine,
    run_id: int,
    *,
    worker: str,
    limit: int,
    layers: Collection[int] | None = None,
    heads: Collection[int] | None = None,
    lease_seconds: float = LEASE_SECONDS,
    now: float | None = None,
) -> list[HeadKey]:
    """Take up to `limit` heads that nobody works on, in order of layer and head, for `lease_seconds`.

    `worker` must be unique per process. `layers` and `heads` limit the choice. Expired claims of others are taken
    over. Empty: nothing left to take now.
    """
    when = time.time() if now is None else now
    free = or_(HeadRecord.state == "waiting", (HeadRecord.state == "claimed") & (HeadRecord.claim_expires <= when))
    query = (
        select(HeadRecord)
        .where(HeadRecord.run_id == run_id, free, *_among(layers, heads))
        .order_by(HeadRecord.layer, HeadRecord.head)
        .limit(limit)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has the whole database already
    )
    with writing(engine) as session:
        found = session.scalars(query).all()
        for head in found:
            head.state, head.claimed_by, head.claim_expires = "claimed", worker, when + lease_seconds
        return [(head.layer, head.head) for head in found]


def _among(layers: Collection[int] | None, heads: Collection[int] | None) -> list[ColumnElement[bool]]:
    """Conditions for a choice of layers and heads; None means all."""
    chosen = ((HeadRecord.layer, layers), (HeadRecord.head, heads))
    return [column.in_(sorted(values)) for column, values in chosen if values is not None]


def renew_claims(
    engine: Engine,
    run_id: int,
    *,
    worker: str,
    lease_seconds: float = LEASE_SECONDS,
    now: float | None = None,
) -> int:
    """Prolong every claim that `worker` holds; returns how many it still holds."""
    when = time.time() if now is None else now
    return _set_claims(engine, run_id, worker, claim_expires=when + lease_seconds)


def release_claims(engine: Engine, run_id: int, *, worker: str) -> int:
    """Give back every head that `worker` holds and has not finished (Ctrl-C); returns how many."""
    return _set_claims(engine, run_id, worker, state="waiting", claimed_by=None, claim_expires=None)


def _set_claims(engine: Engine, run_id: int, worker: str, **values: object) -> int:
    mine = (
        HeadRecord.run_id == run_id,
        HeadRecord.state == "claimed",
        HeadRecord.claimed_by == worker,
    )
    with writing(engine) as session:
        ids = session.scalars(select(HeadRecord.id).where(*mine)).all()
        session.execute(update(HeadRecord).where(*mine).values(**values))
        return len(ids)


def load_mapping(engine: Engine, run_id: int, layer: int, head: int) -> HeadMapping | None:
    """The stored mapping of one head, or None while it has none. Raises UnknownRun."""
    with reading(engine) as session:
        record = _head(session, run_id, layer, head)
        run = session.get_one(RunRecord, run_id)
        return mapping_of(record, run)


def store_result(
    engine: Engine,
    run_id: int,
    report: HeadReport,
    *,
    worker: str | None = None,
    category: str | None = None,
    now: float | None = None,
) -> bool:
    """Keep mapping, description and test of one head in one transaction.

    With `worker`, False (and nothing stored) when that worker no longer holds the claim: another one took the
    head over after the lease ran out. Without `worker`, the result replaces what is there.
    """
    return store_results(engine, run_id, [(report, category)], worker=worker, now=now)[0]


def store_results(
    engine: Engine,
    run_id: int,
    results: Sequence[tuple[HeadReport, str | None]],
    *,
    worker: str | None = None,
    now: float | None = None,
) -> list[bool]:
    """`store_result` for several reports with their categories in one transaction: all that are still held, or none."""
    when = time.time() if now is None else now
    with writing(engine) as session:
        return [_put_result(session, run_id, report, category, worker, when) for report, category in results]


def _put_result(
    session: Session, run_id: int, report: HeadReport, category: str | None, worker: str | None, when: float
) -> bool:
    record = _head(session, run_id, report.mapping.layer, report.mapping.head)
    if worker is not None and (record.state != "claimed" or record.claimed_by != worker):
        return False
    put_mapping(session, record, report.mapping)
    put_description(session, record, report, category=category, when=when)
    record.state, record.claimed_by, record.claim_expires = "done", None, None
    return True


def retry_heads(
    engine: Engine,
    run_id: int,
    *,
    layers: Collection[int] | None = None,
    heads: Collection[int] | None = None,
    statuses: Sequence[str] = ("failed",),
) -> int:
    """Put heads (of `layers` and `heads`) whose description has one of `statuses` back to waiting; returns how many."""
    with writing(engine) as session:
        query = (
            select(HeadRecord)
            .join(DescriptionRecord)
            .where(HeadRecord.run_id == run_id, DescriptionRecord.status.in_(statuses), *_among(layers, heads))
        )
        found = session.scalars(query).all()
        for head in found:
            session.delete(head.description)
            head.state = "waiting"
        return len(found)


def store_relation_scores(
    engine: Engine, model_id: int, scores: Iterable[RelationScore], *, settings: EngineSettings
) -> int:
    """Keep relation scores of a model; those of the same relations go, whatever they were read through.

    Returns how many.
    """
    settings_hash = content_hash(asdict(settings))
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


def counts(
    engine: Engine, run_id: int, *, layers: Collection[int] | None = None, heads: Collection[int] | None = None
) -> RunCounts:
    """How many heads (of `layers` and `heads`) are ok, unclear, failed, claimed and waiting. Raises UnknownRun."""
    with reading(engine) as session:
        return counts_in(session, run_id, *_among(layers, heads))


def counts_in(session: Session, run_id: int, *where: ColumnElement[bool]) -> RunCounts:
    """The same within a transaction of the caller."""
    _run(session, run_id)
    by_state = _grouped(session, HeadRecord.state, run_id, *where)
    by_status = _grouped(session, DescriptionRecord.status, run_id, HeadRecord.state == "done", *where)
    ok, unclear, failed = (by_status.get(status, 0) for status in STATUSES)
    claimed, waiting = by_state.get("claimed", 0), by_state.get("waiting", 0)
    return RunCounts(sum(by_state.values()), ok, unclear, failed, claimed, waiting)


def _grouped(session: Session, column: object, run_id: int, *where: object) -> dict[str, int]:
    query = select(column, func.count(HeadRecord.id)).select_from(HeadRecord)  # type: ignore[call-overload]
    if column is DescriptionRecord.status:
        query = query.join(DescriptionRecord)
    rows = session.execute(query.where(HeadRecord.run_id == run_id, *where).group_by(column))
    return {str(name): int(n) for name, n in rows}


def done_heads(engine: Engine, run_id: int) -> dict[HeadKey, str]:
    """Heads with a result and its status, in order of layer and head."""
    query = (
        select(HeadRecord.layer, HeadRecord.head, DescriptionRecord.status)
        .join(DescriptionRecord)
        .where(HeadRecord.run_id == run_id, HeadRecord.state == "done")
        .order_by(HeadRecord.layer, HeadRecord.head)
    )
    with reading(engine) as session:
        return {(layer, head): status for layer, head, status in session.execute(query)}


def run_state(engine: Engine, run_id: int) -> str:
    """The state of a run. Raises UnknownRun."""
    with reading(engine) as session:
        return _run(session, run_id).state


def finish_run(engine: Engine, run_id: int, *, state: str = "finished", now: float | None = None) -> None:
    """Mark the run `finished`, or `stopped` when it is to be resumed. Raises UnknownRun."""
    with writing(engine) as session:
        run = _run(session, run_id)
        run.state = state
        run.finished = (time.time() if now is None else now) if state == "finished" else None


def finish_if_done(engine: Engine, run_id: int, *, now: float | None = None) -> bool:
    """Mark the run `finished` where no head of it is claimed or waiting; True when it is. Raises UnknownRun."""
    with writing(engine) as session:
        run, now_there = _run(session, run_id), counts_in(session, run_id)
        if now_there.done < now_there.total:
            return False  # somebody else's work, or left for later: the state stays as they set it
        if run.state != "finished":
            run.state, run.finished = "finished", time.time() if now is None else now
        return True


def _run(session: Session, run_id: int) -> RunRecord:
    run = session.get(RunRecord, run_id)
    if run is None:
        raise UnknownRun("no such run", got=run_id, next_step="List the runs to see their numbers.")
    return run


def _head(session: Session, run_id: int, layer: int, head: int) -> HeadRecord:
    _run(session, run_id)
    where = (HeadRecord.run_id == run_id, HeadRecord.layer == layer, HeadRecord.head == head)
    record = session.scalar(select(HeadRecord).where(*where))
    if record is None:
        raise UnknownRun("this run has no such head", got=f"layer {layer}, head {head} of run {run_id}")
    return record
