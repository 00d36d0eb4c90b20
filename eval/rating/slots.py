"""Which item a rater gets next: leases on slots that were made at launch.

Exactly k answers per head under races: a slot is taken in a transaction that holds the write lock (SQLite) or
locks the row and passes over rows locked by others (PostgreSQL), and UNIQUE(study, item, rater) stands behind.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Engine, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from agent.database import writing
from eval.errors import BadStudy
from eval.rating.store import add_event
from eval.rating.studies import StudySettings, get_study
from eval.rating.tables import REGULAR_KINDS, Draft, Item, Person, Rating, Slot, Study

PRACTICE = "practice"


@dataclass(frozen=True)
class Screen:
    """What the rating page needs; nothing in it tells the head, the kind of item or what others said."""

    state: Literal["instructions", "item", "waiting", "finished", "closed"]
    public_id: str = ""
    content: dict[str, Any] | None = None
    draft: dict[str, Any] | None = None
    done: int = 0
    total: int = 0
    practice: tuple[int, int] | None = None  # (this one, of how many) while practising
    held_by_others: int = 0
    pattern_first: bool = True
    instructions: str = ""
    last_saved: float | None = None
    last_item: str | None = None  # public id, for undo


def next_screen(engine: Engine, rater_id: int, *, now: float | None = None) -> Screen:
    """Resume the item that the rater has open, else lease the next one. Raises BadStudy for no rater."""
    when = time.time() if now is None else now
    with writing(engine) as session:
        person = session.get(Person, rater_id, with_for_update=True)  # one browser of a rater at a time
        if person is None or person.study_id is None:
            raise BadStudy("this person rates in no study", got=rater_id)
        study = get_study(session, person.study_id)
        settings = StudySettings(**study.settings)
        if study.state != "launched":
            return Screen("closed" if study.state == "closed" else "waiting")
        if person.instructed is None:
            return Screen("instructions", instructions=settings.instructions)
        slot = _open_slot(session, person) or _take(session, study, settings, person, when)
        if slot is not None:
            _lease(session, slot, person, settings, when)
            session.flush()
        return _screen(session, settings, person, slot, when)


def confirm_instructions(engine: Engine, rater_id: int, *, now: float | None = None) -> None:
    """The rater has read the instructions."""
    when = time.time() if now is None else now
    with writing(engine) as session:
        person = session.get_one(Person, rater_id)
        if person.instructed is None:
            person.instructed = when
            add_event(session, "instructed", who=person.name, study_id=person.study_id, at=when)


def _open_slot(session: Session, person: Person) -> Slot | None:
    query = select(Slot).where(Slot.rater_id == person.id, Slot.state == "leased")
    return session.scalar(query.order_by(Slot.leased).limit(1))


def _take(session: Session, study: Study, settings: StudySettings, person: Person, when: float) -> Slot | None:
    reserved = session.scalars(
        select(Slot).join(Item).where(Slot.rater_id == person.id, Slot.state == "reserved").order_by(Item.position)
    ).all()
    practice = [slot for slot in reserved if slot.item.kind == PRACTICE]
    if practice:
        return practice[0]
    tally = _tally(session, person)
    answered = tally.regular("done")
    if reserved and answered + tally.regular("skipped") >= _next_check(tally["done", "attention"]):
        return reserved[0]
    if settings.items_per_rater is None or answered < settings.items_per_rater:
        slot = _free_slot(session, study, person, when)
        if slot is not None:
            return slot
    return reserved[0] if reserved else None


def _next_check(checked: int) -> int:
    """After how many answers the next attention item comes: 3, 11, 19, …"""
    return 3 + 8 * checked


class _Tally(Counter[tuple[str, str]]):
    """(state of the slot, kind of the item) -> how many, for one rater."""

    def regular(self, state: str) -> int:
        return sum(self[state, kind] for kind in REGULAR_KINDS)


def _tally(session: Session, person: Person) -> _Tally:
    """One query for all counts of a screen."""
    query = select(Slot.state, Item.kind, func.count(Slot.id)).join(Item).where(Slot.rater_id == person.id)
    rows = session.execute(query.group_by(Slot.state, Item.kind))
    return _Tally({(state, kind): n for state, kind, n in rows})


def _available(study_id: int, person: Person, when: float) -> ColumnElement[bool]:
    """Free or expired slots of items on which this rater holds no slot."""
    own = aliased(Slot)
    mine = exists().where(own.item_id == Slot.item_id, own.rater_id == person.id)
    usable = or_(Slot.state == "free", and_(Slot.state == "leased", Slot.lease_expires <= when))
    return and_(Slot.study_id == study_id, Slot.regular, usable, ~mine)


def _free_slot(session: Session, study: Study, person: Person, when: float) -> Slot | None:
    """The next slot in this rater's own round: breadth first, each rater starting somewhere else."""
    base = select(Slot).where(_available(study.id, person, when)).with_for_update(skip_locked=True).limit(1)
    for n in range(study.k + 1):
        low, high = n * 1_000_000, (n + 1) * 1_000_000
        start = low + person.start_key
        last = n == study.k  # replacements of skipped slots come after all others
        for first, beyond in ((start, high), (low, start)) if not last else ((low, 2**31 - 1),):
            here = base.where(Slot.order_key >= first, Slot.order_key < beyond).order_by(Slot.order_key)
            slot = session.scalar(here)
            if slot is not None:
                return slot
    return None


def _lease(session: Session, slot: Slot, person: Person, settings: StudySettings, when: float) -> None:
    if slot.state == "leased" and slot.rater_id not in (None, person.id):
        loser = session.get_one(Person, slot.rater_id)
        facts = {"study_id": slot.study_id, "item_id": slot.item_id, "at": when, "to": person.name}
        add_event(session, "lease lost", who=loser.name, **facts)  # type: ignore[arg-type]
    if slot.state != "leased" or slot.rater_id != person.id:
        slot.leased = when
    slot.state, slot.rater_id = "leased", person.id
    slot.lease_expires = when + settings.lease_minutes * 60


def _screen(session: Session, settings: StudySettings, person: Person, slot: Slot | None, when: float) -> Screen:
    tally = _tally(session, person)
    done = tally.regular("done") + tally["done", "attention"]
    left = _left(session, settings, person, tally, when)
    last = _last_rating(session, person)
    facts: dict[str, Any] = {
        "done": done,
        "pattern_first": settings.pattern_first,
        "last_saved": last[0] if last else None,
        "last_item": last[1] if last else None,
    }
    if slot is None:
        held = _held(session, person)
        state: Literal["waiting", "finished"] = "waiting" if held else "finished"
        return Screen(state, total=done, held_by_others=held, **facts)
    practising = slot.item.kind == PRACTICE
    total = done + left + (0 if practising else 1)
    draft = session.scalar(select(Draft).where(Draft.item_id == slot.item_id, Draft.rater_id == person.id))
    return Screen(
        "item",
        public_id=slot.item.public_id,
        content=slot.item.content,
        draft=draft.answer if draft else None,
        total=total,
        practice=_practice_place(session, person, slot) if practising else None,
        **facts,
    )


def _left(session: Session, settings: StudySettings, person: Person, tally: _Tally, when: float) -> int:
    """Items that this rater can still get, the open one not counted."""
    query = select(func.count(func.distinct(Slot.item_id)))
    free = session.scalar(query.where(_available(person.study_id or 0, person, when))) or 0
    if settings.items_per_rater is not None:
        used = tally.regular("done") + tally.regular("leased")
        free = min(free, max(0, settings.items_per_rater - used))
    return free + tally["reserved", "attention"]


def _held(session: Session, person: Person) -> int:
    """Items that others have on screen and that would come here if they are given up."""
    own = aliased(Slot)
    mine = exists().where(own.item_id == Slot.item_id, own.rater_id == person.id)
    query = select(func.count(func.distinct(Slot.item_id))).where(
        Slot.study_id == person.study_id, Slot.regular, Slot.state == "leased", ~mine
    )
    return session.scalar(query) or 0


def _practice_place(session: Session, person: Person, slot: Slot) -> tuple[int, int]:
    query = select(func.count(Slot.id)).join(Item).where(Slot.rater_id == person.id, Item.kind == PRACTICE)
    total = session.scalar(query) or 0
    before = session.scalar(query.where(Item.position < slot.item.position)) or 0
    return before + 1, total


def _last_rating(session: Session, person: Person) -> tuple[float, str] | None:
    query = (
        select(Rating.updated, Item.public_id)
        .join(Item, Rating.item_id == Item.id)
        .where(Rating.rater_id == person.id, Item.kind != PRACTICE)
        .order_by(Rating.created.desc())
        .limit(1)
    )
    row = session.execute(query).first()
    return (row[0], row[1]) if row else None
