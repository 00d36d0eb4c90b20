"""Where a study stands: its slots, what each person did, and which items are on screen."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from agent.runs.database import reading
from eval.rating.items import matches
from eval.rating.studies import get_study
from eval.rating.tables import Item, Person, Rating, Slot


@dataclass(frozen=True)
class RaterProgress:
    """One person's work."""

    name: str
    role: str
    done: int
    skipped: int
    open: int
    attention_failed: int
    last: float | None


@dataclass(frozen=True)
class Lease:
    """An item that a rater has on screen."""

    rater: str
    position: int
    since: float
    expires: float
    expired: bool


@dataclass(frozen=True)
class Progress:
    """Where a study stands: slots of real and control items, people, and leases."""

    slots: int
    done: int
    leased: int
    free: int
    skipped: int
    raters: tuple[RaterProgress, ...]
    leases: tuple[Lease, ...]


def progress(engine: Engine, study_id: int, *, now: float | None = None) -> Progress:
    """Counts for the lead, with every lease and whether it has run out."""
    when = time.time() if now is None else now
    with reading(engine) as session:
        get_study(session, study_id)
        by_state: Counter[str] = Counter()
        query = select(Slot.state, func.count(Slot.id)).where(Slot.study_id == study_id, Slot.regular)
        for state, n in session.execute(query.group_by(Slot.state)):
            by_state[state] = n
        people = session.scalars(select(Person).where(Person.study_id == study_id).order_by(Person.id))
        raters = tuple(_rater_progress(session, person) for person in people)
        leases = _leases(session, study_id, when)
    live = by_state["done"] + by_state["leased"] + by_state["free"]
    counts = (live, by_state["done"], by_state["leased"], by_state["free"], by_state["skipped"])
    return Progress(*counts, raters, leases)


def _rater_progress(session: Session, person: Person) -> RaterProgress:
    query = select(Slot.state, func.count(Slot.id)).where(Slot.rater_id == person.id)
    n = {str(state): int(count) for state, count in session.execute(query.group_by(Slot.state))}
    last = session.scalar(select(func.max(Rating.updated)).where(Rating.rater_id == person.id))
    done = n.get("done", 0)
    if person.role == "judge":
        done = session.scalar(select(func.count(Rating.id)).where(Rating.rater_id == person.id)) or 0
    failed = _attention_failed(session, person)
    counts = (done, n.get("skipped", 0), n.get("leased", 0) + n.get("reserved", 0))
    return RaterProgress(person.name, person.role, *counts, failed, last)


def _attention_failed(session: Session, person: Person) -> int:
    query = (
        select(Rating.plausible, Item.expected)
        .join(Item, Rating.item_id == Item.id)
        .where(Rating.rater_id == person.id, Item.kind == "attention", Rating.skip_reason.is_(None))
    )
    return sum(not matches(expected, None, plausible) for plausible, expected in session.execute(query))


def _leases(session: Session, study_id: int, when: float) -> tuple[Lease, ...]:
    query = (
        select(Person.name, Item.position, Slot.leased, Slot.lease_expires)
        .join(Slot, Slot.rater_id == Person.id)
        .join(Item, Slot.item_id == Item.id)
        .where(Slot.study_id == study_id, Slot.state == "leased")
        .order_by(Slot.lease_expires)
    )
    return tuple(
        Lease(name, position, since or 0.0, expires or 0.0, (expires or 0.0) <= when)
        for name, position, since, expires in session.execute(query)
    )
