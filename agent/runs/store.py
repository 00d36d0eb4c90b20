"""Runs in the database: opened by identity, and filled with the results of heads.

Every function takes an Engine from `agent.runs.database.open_database`, opens its own short transaction, and may raise
DatabaseUnusable. `now` is for tests: seconds since 1970. Claims on heads are in `agent.runs.claims`, counts and the
state of a run in `agent.runs.state`; listing, comparing and deleting in `agent.runs.tables`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.errors import UnknownRun
from agent.results.reports import HeadReport
from agent.runs.database import alone, writing
from agent.runs.head_rows import put_description, put_mapping
from agent.runs.identity import ModelCard, RunIdentity
from agent.runs.records import HeadRecord, ModelRecord, RunRecord
from agent.runs.state import HeadKey, run_record


@dataclass(frozen=True)
class OpenedRun:
    """A run to work on; `created` is False when the same identity was there already."""

    run_id: int
    model_id: int
    created: bool


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


def _head(session: Session, run_id: int, layer: int, head: int) -> HeadRecord:
    run_record(session, run_id)
    where = (HeadRecord.run_id == run_id, HeadRecord.layer == layer, HeadRecord.head == head)
    record = session.scalar(select(HeadRecord).where(*where))
    if record is None:
        raise UnknownRun("this run has no such head", got=f"layer {layer}, head {head} of run {run_id}")
    return record
