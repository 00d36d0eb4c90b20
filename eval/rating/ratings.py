"""Answers: save, skip, edit, draft. One current value per rater and item; every version is kept."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import BindParameter, Engine, bindparam, delete, func, select
from sqlalchemy.orm import Session, load_only

from agent.runs.database import reading, writing
from agent.runs.records import storable
from eval.errors import BadAnswer, BadStudy, NotFound
from eval.rating.items import matches
from eval.rating.slots import PRACTICE, Screen, screen_in
from eval.rating.store import add_event
from eval.rating.tables import (
    PATTERN_ANSWERS,
    PLAUSIBLE_ANSWERS,
    Draft,
    Event,
    Item,
    Person,
    Rating,
    RatingVersion,
    Slot,
    Study,
)

NOTE_LENGTH = 2000


@dataclass(frozen=True)
class Answer:
    """What a rater says of one item; a skip has a reason and nothing else."""

    pattern: str | None = None
    plausible: str | None = None
    note: str = ""
    skip_reason: str | None = None

    def problems(self) -> dict[str, str]:
        """What is wrong, by the name of the field; empty when the answer can be saved."""
        found: dict[str, str] = {}
        if len(self.note) > NOTE_LENGTH:
            found["note"] = f"A note can have at most {NOTE_LENGTH} characters."
        if self.skip_reason is not None:
            if not self.skip_reason.strip():
                found["skip_reason"] = "Please say in a word why you skip this one."
            elif len(self.skip_reason) > NOTE_LENGTH:
                found["skip_reason"] = f"A reason can have at most {NOTE_LENGTH} characters."
            return found
        if self.pattern not in PATTERN_ANSWERS:
            found["pattern"] = "Please answer question 1."
        if self.plausible not in PLAUSIBLE_ANSWERS:
            found["plausible"] = "Please answer question 2."
        return found


@dataclass(frozen=True)
class Saved:
    """The confirmation of a save."""

    at: float
    counted: bool  # False: the lease had run out and others have filled the item
    feedback: Feedback | None


@dataclass(frozen=True)
class Feedback:
    """After a practice item: whether the answer was the expected one, and why."""

    right: bool
    text: str


@dataclass(frozen=True)
class OwnRating:
    """One line of "my ratings"."""

    public_id: str
    answer: Answer
    content: dict[str, Any]
    updated: float
    version: int


def save(engine: Engine, rater_id: int, public_id: str, answer: Answer, *, now: float | None = None) -> Saved:
    """Store an answer, once however often it is sent; a different answer later is a new version.

    Raises BadAnswer (with a sentence for the rater) NotFound (unknown item) and BadStudy (study closed).
    """
    when = time.time() if now is None else now
    with writing(engine) as session:
        return _save_in(session, rater_id, public_id, answer, when)[0]


def save_and_next(
    engine: Engine, rater_id: int, public_id: str, answer: Answer, *, now: float | None = None
) -> tuple[Saved, Screen]:
    """`save`, and the next screen, in one transaction: one wait for the disk instead of two."""
    when = time.time() if now is None else now
    with writing(engine) as session:
        saved, place, rating = _save_in(session, rater_id, public_id, answer, when)
        newest = rating.version == 1 and rating.updated == when and place.item.kind != PRACTICE
        last = (when, public_id) if newest else None
        return saved, screen_in(session, place.person, place.study, when, last=last)


@dataclass(frozen=True)
class _Place:
    """Who answers what, with the rater's own slot of it, if there is one."""

    person: Person
    item: Item
    study: Study
    slot: Slot | None


def _save_in(
    session: Session, rater_id: int, public_id: str, answer: Answer, when: float
) -> tuple[Saved, _Place, Rating]:
    if problems := answer.problems():
        raise BadAnswer(" ".join(problems.values()))
    place = _own_place(session, rater_id, public_id)
    counted = _settle_slot(session, place, answer.skip_reason is not None, when)
    rating = _upsert(session, place, answer, counted, when)
    session.execute(_DROP_DRAFT, {"item": place.item.id, "person": rater_id})
    feedback = None
    if place.item.kind == PRACTICE and answer.skip_reason is None:
        expected = place.item.expected
        right = matches(expected, answer.pattern, answer.plausible)
        feedback = Feedback(right, str((expected or {}).get("feedback", "")))
    return Saved(rating.updated, rating.counted, feedback), place, rating


_PERSON: BindParameter[int] = bindparam("person")
_ITEM: BindParameter[int] = bindparam("item")
_PLACE = (
    select(Person, Item, Study)
    .join(Study, Study.id == Person.study_id)
    .join(Item, Item.study_id == Person.study_id)
    .where(Person.id == _PERSON, Item.public_id == bindparam("item"))
    .options(load_only(Item.public_id, Item.study_id, Item.kind, Item.expected))
    .with_for_update(of=Person)  # one browser of a rater at a time
)
_OWN_SLOT = select(Slot).where(Slot.item_id == _ITEM, Slot.rater_id == _PERSON).with_for_update()
_OWN_RATING = select(Rating).where(Rating.item_id == _ITEM, Rating.rater_id == _PERSON).with_for_update()
_OWN_DRAFT = select(Draft).where(Draft.item_id == _ITEM, Draft.rater_id == _PERSON)
_DROP_DRAFT = delete(Draft).where(Draft.item_id == _ITEM, Draft.rater_id == _PERSON)


def _own_place(session: Session, rater_id: int, public_id: str) -> _Place:
    row = session.execute(_PLACE, {"person": rater_id, "item": public_id}).first()
    if row is None:
        raise NotFound("there is no such item in your study")
    person, item, study = row
    if study.state != "launched":
        raise BadStudy("this study takes no answers now", got=study.state)
    values = {"item": item.id, "person": person.id}
    slot = session.scalar(_OWN_SLOT, values)
    given = slot is not None or any(session.scalar(query, values) for query in (_OWN_RATING, _OWN_DRAFT))
    if not given and not _had(session, person, item):
        raise BadStudy("this item was not given to you")
    return _Place(person, item, study, slot)


def _had(session: Session, person: Person, item: Item) -> bool:
    """Whether the item was on this rater's screen before its lease went to someone else."""
    query = select(Event.id).where(Event.item_id == item.id, Event.who == person.name, Event.what == "lease lost")
    return session.scalar(query.limit(1)) is not None


def _settle_slot(session: Session, place: _Place, skip: bool, when: float) -> bool:
    """Bring the slots of the item in line with the answer; returns whether the answer counts."""
    person, item, own = place.person, place.item, place.slot
    if skip:
        if own is not None and own.state != "skipped":
            own.state = "skipped"
            if own.regular:
                session.add(_replacement(session, own))
        return True
    if own is not None and own.state != "skipped":
        own.state, own.lease_expires = "done", None
        return True
    spare = session.scalar(
        select(Slot)
        .where(Slot.item_id == item.id, Slot.state == "free")
        .order_by(Slot.n.desc())
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if own is not None and not own.regular:
        own.state = "done"
        return True
    if spare is None:
        add_event(session, "late answer", who=person.name, study_id=item.study_id, item_id=item.id, at=when)
        return False
    if own is not None:  # a skip taken back: its own slot counts again, the replacement goes
        session.delete(spare)
        own.state = "done"
        return True
    spare.state, spare.rater_id = "done", person.id
    return True


def _replacement(session: Session, skipped: Slot) -> Slot:
    """A new free slot for somebody else, so that the head still gets its k answers."""
    n = session.scalar(select(func.max(Slot.n)).where(Slot.item_id == skipped.item_id)) or 0
    return Slot(
        study_id=skipped.study_id,
        item_id=skipped.item_id,
        n=n + 1,
        regular=True,
        state="free",
        order_key=1_000_000 * 60 + skipped.order_key % 1_000_000,
    )


def _upsert(session: Session, place: _Place, answer: Answer, counted: bool, when: float) -> Rating:
    person, item = place.person, place.item
    clean = Answer(
        answer.pattern if answer.skip_reason is None else None,
        answer.plausible if answer.skip_reason is None else None,
        storable(answer.note),
        None if answer.skip_reason is None else storable(answer.skip_reason.strip()),
    )
    rating = session.scalar(_OWN_RATING, {"item": item.id, "person": person.id})
    if rating is None:
        rating = Rating(study_id=item.study_id, item_id=item.id, rater_id=person.id, created=when)
        rating.version = 0
        session.add(rating)
    elif _answer_of(rating) == clean:
        rating.counted = counted
        return rating  # the same answer sent again: a retry
    rating.pattern, rating.plausible = clean.pattern, clean.plausible
    rating.note, rating.skip_reason = clean.note, clean.skip_reason
    rating.counted, rating.updated, rating.version = counted, when, rating.version + 1
    session.flush()
    session.add(RatingVersion(rating_id=rating.id, version=rating.version, answer=asdict(clean), at=when))
    what = "skipped" if clean.skip_reason is not None else "rated" if rating.version == 1 else "changed"
    facts = {"study_id": item.study_id, "item_id": item.id, "at": when, "answer": asdict(clean)}
    add_event(session, what, who=person.name, **facts)  # type: ignore[arg-type]
    return rating


def _answer_of(rating: Rating) -> Answer:
    return Answer(rating.pattern, rating.plausible, rating.note, rating.skip_reason)


def save_draft(engine: Engine, rater_id: int, public_id: str, answer: Answer, *, now: float | None = None) -> None:
    """Keep what stands in the form and prolong the lease; nothing happens once the item is rated."""
    when = time.time() if now is None else now
    with writing(engine) as session:
        place = _own_place(session, rater_id, public_id)
        if place.slot is None or place.slot.state != "leased":
            return
        place.slot.lease_expires = when + place.study.settings["lease_minutes"] * 60
        draft = session.scalar(_OWN_DRAFT, {"item": place.item.id, "person": rater_id})
        if draft is None:
            draft = Draft(item_id=place.item.id, rater_id=rater_id)
            session.add(draft)
        kept = {name: storable(v[: 2 * NOTE_LENGTH]) for name, v in asdict(answer).items() if v}
        draft.answer, draft.at = kept, when


def own_ratings(engine: Engine, rater_id: int) -> list[OwnRating]:
    """A rater's own current answers, newest first; practice items left out."""
    with reading(engine) as session:
        query = select(Rating).join(Item, Rating.item_id == Item.id).where(Rating.rater_id == rater_id)
        ratings = session.scalars(query.where(Item.kind != "practice").order_by(Rating.created.desc()))
        return [_own(rating) for rating in ratings]


def own_rating(engine: Engine, rater_id: int, public_id: str) -> OwnRating:
    """One of them. Raises NotFound."""
    with reading(engine) as session:
        query = select(Rating).join(Item, Rating.item_id == Item.id)
        rating = session.scalar(query.where(Rating.rater_id == rater_id, Item.public_id == public_id))
        if rating is None:
            raise NotFound("you have not rated such an item")
        return _own(rating)


def _own(rating: Rating) -> OwnRating:
    item = rating.item
    return OwnRating(item.public_id, _answer_of(rating), item.content, rating.updated, rating.version)
