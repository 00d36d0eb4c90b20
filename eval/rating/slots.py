"""Which item a rater gets next: leases on slots that were made at launch.

Exactly k answers per item under races: a slot is taken in a transaction that holds the write lock (SQLite) or
locks the row and passes over rows locked by others (PostgreSQL), and UNIQUE(study, item, rater) stands behind.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import BindParameter, ColumnElement, Engine, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session, aliased

from agent.runs.database import writing
from eval.errors import BadStudy
from eval.rating.store import add_event
from eval.rating.studies import StudySettings, get_study
from eval.rating.tables import REGULAR_KINDS, Draft, Item, Person, Rating, Slot, Study

PRACTICE = "practice"
ROUND = 1_000_000  # order keys n * ROUND … are the n-th slots of all items


def _available() -> ColumnElement[bool]:
    """Free or expired slots of items on which this rater holds no slot."""
    usable = or_(Slot.state == "free", and_(Slot.state == "leased", Slot.lease_expires <= bindparam("when")))
    return and_(Slot.study_id == bindparam("study"), Slot.regular, usable, ~_held_by_me())


def _held_by_me() -> ColumnElement[bool]:
    own = aliased(Slot)
    return Slot.item_id.in_(select(own.item_id).where(own.rater_id == bindparam("person")))  # listed once, not per slot


# Built once: putting a statement together costs more than SQLite needs to run it.
_PERSON: BindParameter[int] = bindparam("person")
_COUNTS = (
    select(Slot.state, Item.kind, func.count(Slot.id))
    .join(Item)
    .where(Slot.rater_id == _PERSON)
    .group_by(Slot.state, Item.kind)
)
_HELD_OR_RESERVED = (
    select(Slot, Item.kind)
    .join(Item)
    .where(Slot.rater_id == _PERSON, Slot.state.in_(["leased", "reserved"]))
    .order_by(Item.position)
)
_FREE = (
    select(Slot)
    .where(_available())
    .order_by(Slot.order_key // ROUND, Slot.order_key % ROUND < bindparam("start"), Slot.order_key)
    .limit(1)
    .with_for_update(skip_locked=True, of=Slot)
)
_N_FREE = select(func.count(func.distinct(Slot.item_id))).where(_available())
_N_HELD = select(func.count(func.distinct(Slot.item_id))).where(
    Slot.study_id == bindparam("study"), Slot.regular, Slot.state == "leased", ~_held_by_me()
)
_SHOWN = (
    select(Item.public_id, Item.kind, Item.position, Item.content, Draft.answer.label("draft"))
    .outerjoin(Draft, and_(Draft.item_id == Item.id, Draft.rater_id == _PERSON))
    .where(Item.id == bindparam("item"))
)
_LAST_RATING = (
    select(Rating.updated, Item.public_id)
    .join(Item, Rating.item_id == Item.id)
    .where(Rating.rater_id == _PERSON, Item.kind != PRACTICE)
    .order_by(Rating.created.desc())
    .limit(1)
)


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
        return screen_in(session, person, get_study(session, person.study_id), when)


def screen_in(
    session: Session, person: Person, study: Study, when: float, *, last: tuple[float, str] | None = None
) -> Screen:
    """`next_screen` within a transaction that holds the lock of `person`; `last`: time and item of a save just made."""
    settings = StudySettings(**study.settings)
    if study.state != "launched":
        return Screen("closed" if study.state == "closed" else "waiting")
    if person.instructed is None:
        return Screen("instructions", instructions=settings.instructions)
    session.flush()
    tally = _tally(session, person)
    slot = _next_slot(session, study, settings, person, tally, when)
    if slot is not None:
        _lease(session, slot, person, settings, when)
        session.flush()
    return _screen(session, settings, person, slot, tally, when, last)


def confirm_instructions(engine: Engine, rater_id: int, *, now: float | None = None) -> None:
    """The rater has read the instructions."""
    when = time.time() if now is None else now
    with writing(engine) as session:
        person = session.get_one(Person, rater_id)
        if person.instructed is None:
            person.instructed = when
            add_event(session, "instructed", who=person.name, study_id=person.study_id, at=when)


def _next_slot(
    session: Session, study: Study, settings: StudySettings, person: Person, tally: _Tally, when: float
) -> Slot | None:
    """The slot on screen, else the next one: practice, then items with a check now and then."""
    rows = session.execute(_HELD_OR_RESERVED, {"person": person.id}).all() if tally.holds_any else []
    leased = [slot for slot, _ in rows if slot.state == "leased"]
    if leased:
        return min(leased, key=lambda slot: slot.leased or 0.0)
    practice = [slot for slot, kind in rows if kind == PRACTICE]
    if practice:
        return practice[0]
    answered = tally.regular("done")
    if rows and answered + tally.regular("skipped") >= _next_check(tally["done", "attention"]):
        return rows[0][0]
    if settings.items_per_rater is None or answered < settings.items_per_rater:
        slot = _free_slot(session, study, person, when)
        if slot is not None:
            return slot
    return rows[0][0] if rows else None


def _next_check(checked: int) -> int:
    """After how many answers the next attention item comes: 3, 11, 19, …"""
    return 3 + 8 * checked


class _Tally(Counter[tuple[str, str]]):
    """(state of the slot, kind of the item) -> how many, for one rater."""

    def regular(self, state: str) -> int:
        return sum(self[state, kind] for kind in REGULAR_KINDS)

    @property
    def holds_any(self) -> bool:
        """Whether an item is on screen or set aside for this rater."""
        return any(n and state in ("leased", "reserved") for (state, _), n in self.items())


def _tally(session: Session, person: Person) -> _Tally:
    """One query for all counts of a screen, before the next item is leased."""
    return _Tally({(state, kind): n for state, kind, n in session.execute(_COUNTS, {"person": person.id})})


def _free_slot(session: Session, study: Study, person: Person, when: float) -> Slot | None:
    """The next slot in this rater's own round: breadth first, each rater starting somewhere else."""
    values = {"person": person.id, "study": study.id, "when": when, "start": person.start_key}
    return session.scalar(_FREE, values)


def _lease(session: Session, slot: Slot, person: Person, settings: StudySettings, when: float) -> None:
    if slot.state == "leased" and slot.rater_id not in (None, person.id):
        loser = session.get_one(Person, slot.rater_id)
        facts = {"study_id": slot.study_id, "item_id": slot.item_id, "at": when, "to": person.name}
        add_event(session, "lease lost", who=loser.name, **facts)  # type: ignore[arg-type]
    if slot.state != "leased" or slot.rater_id != person.id:
        slot.leased = when
    slot.state, slot.rater_id = "leased", person.id
    slot.lease_expires = when + settings.lease_minutes * 60


def _screen(
    session: Session,
    settings: StudySettings,
    person: Person,
    slot: Slot | None,
    tally: _Tally,
    when: float,
    last: tuple[float, str] | None,
) -> Screen:
    done = tally.regular("done") + tally["done", "attention"]
    last = last or _last_rating(session, person)
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
    shown = session.execute(_SHOWN, {"item": slot.item_id, "person": person.id}).one()
    practising = shown.kind == PRACTICE
    on_screen = 0 if practising else 1
    return Screen(
        "item",
        public_id=shown.public_id,
        content=shown.content,
        draft=shown.draft,
        total=done + on_screen + _left(session, settings, person, tally, shown.kind, when),
        practice=_practice_place(session, person, shown.position) if practising else None,
        **facts,
    )


def _left(session: Session, settings: StudySettings, person: Person, tally: _Tally, on_screen: str, when: float) -> int:
    """Items that this rater can still get, the one on screen (of that kind) not counted."""
    free = session.scalar(_N_FREE, {"person": person.id, "study": person.study_id, "when": when}) or 0
    if settings.items_per_rater is not None:
        used = tally.regular("done") + (on_screen in REGULAR_KINDS)
        free = min(free, max(0, settings.items_per_rater - used))
    checks = tally["reserved", "attention"] + tally["leased", "attention"]
    return free + checks - (on_screen == "attention")


def _held(session: Session, person: Person) -> int:
    """Items that others have on screen and that would come here if they are given up."""
    return session.scalar(_N_HELD, {"person": person.id, "study": person.study_id}) or 0


def _practice_place(session: Session, person: Person, position: int) -> tuple[int, int]:
    query = select(func.count(Slot.id)).join(Item).where(Slot.rater_id == person.id, Item.kind == PRACTICE)
    total = session.scalar(query) or 0
    before = session.scalar(query.where(Item.position < position)) or 0
    return before + 1, total


def _last_rating(session: Session, person: Person) -> tuple[float, str] | None:
    row = session.execute(_LAST_RATING, {"person": person.id}).first()
    return (row[0], row[1]) if row else None
