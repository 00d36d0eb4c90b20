"""Claims on heads of a run, so that two processes never label a head twice.

A head is claimed with a lease. A result is stored only while its worker still holds the claim (`agent.runs.store`).
`now` is for tests: seconds since 1970.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from sqlalchemy import Engine, or_, select, update

from agent.runs.database import writing
from agent.runs.records import DescriptionRecord, HeadRecord
from agent.runs.state import HeadKey, among

LEASE_SECONDS = 600.0


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
        .where(HeadRecord.run_id == run_id, free, *among(layers, heads))
        .order_by(HeadRecord.layer, HeadRecord.head)
        .limit(limit)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has the whole database already
    )
    with writing(engine) as session:
        found = session.scalars(query).all()
        for head in found:
            head.state, head.claimed_by, head.claim_expires = "claimed", worker, when + lease_seconds
        return [(head.layer, head.head) for head in found]


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
            .where(HeadRecord.run_id == run_id, DescriptionRecord.status.in_(statuses), *among(layers, heads))
        )
        found = session.scalars(query).all()
        for head in found:
            session.delete(head.description)
            head.state = "waiting"
        return len(found)
