"""How far a run is: its heads by state and status, and its own state."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.orm import Session

from agent.errors import UnknownRun
from agent.runs.database import reading, writing
from agent.runs.records import STATUSES, DescriptionRecord, HeadRecord, ModelRecord, RunRecord

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


def counts(
    engine: Engine, run_id: int, *, layers: Collection[int] | None = None, heads: Collection[int] | None = None
) -> RunCounts:
    """How many heads (of `layers` and `heads`) are ok, unclear, failed, claimed and waiting. Raises UnknownRun."""
    with reading(engine) as session:
        return counts_in(session, run_id, *among(layers, heads))


def counts_in(session: Session, run_id: int, *where: ColumnElement[bool]) -> RunCounts:
    """The same within a transaction of the caller."""
    run_record(session, run_id)
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
        return run_record(session, run_id).state


def finish_run(engine: Engine, run_id: int, *, state: str = "finished", now: float | None = None) -> None:
    """Mark the run `finished`, or `stopped` when it is to be resumed. Raises UnknownRun."""
    with writing(engine) as session:
        run = run_record(session, run_id)
        run.state = state
        run.finished = (time.time() if now is None else now) if state == "finished" else None


def finish_if_done(engine: Engine, run_id: int, *, now: float | None = None) -> bool:
    """Mark the run `finished` where no head of it is claimed or waiting; True when it is. Raises UnknownRun."""
    with writing(engine) as session:
        run, now_there = run_record(session, run_id), counts_in(session, run_id)
        if now_there.done < now_there.total:
            return False  # somebody else's work, or left for later: the state stays as they set it
        if run.state != "finished":
            run.state, run.finished = "finished", time.time() if now is None else now
        return True


def run_record(session: Session, run_id: int) -> RunRecord:
    """The run of that number. Raises UnknownRun."""
    run = session.get(RunRecord, run_id)
    if run is None:
        raise UnknownRun("no such run", got=run_id, next_step="List the runs to see their numbers.")
    return run


def newest_run(session: Session, *where: ColumnElement[bool]) -> RunRecord | None:
    """The newest run with a result, of those that `where` (conditions on runs and models) allows.

    A run of less than a layer of heads, as `describe-head` makes it, is taken only where there is no other.
    """
    n_heads = select(func.count(HeadRecord.id)).where(HeadRecord.run_id == RunRecord.id).scalar_subquery()
    done = select(HeadRecord.run_id).where(HeadRecord.state == "done")
    query = select(RunRecord).join(RunRecord.model).where(RunRecord.id.in_(done), *where)
    return session.scalar(query.order_by(n_heads < ModelRecord.n_heads, RunRecord.id.desc()).limit(1))


def among(layers: Collection[int] | None, heads: Collection[int] | None) -> list[ColumnElement[bool]]:
    """Conditions for a choice of layers and heads; None means all."""
    chosen = ((HeadRecord.layer, layers), (HeadRecord.head, heads))
    return [column.in_(sorted(values)) for column, values in chosen if values is not None]
