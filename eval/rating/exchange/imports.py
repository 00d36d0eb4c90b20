"""Exports of studies read back: into a new study, or as further answers to items that are in this database."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from pydantic import ValidationError
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.runs.database import writing
from agent.runs.identity import content_hash
from agent.runs.records import storable
from eval.errors import BadImport
from eval.rating.exchange.dump import DumpedItem, DumpedRating, DumpedStudy
from eval.rating.exchange.label_studio import item_of_task
from eval.rating.store import add_event
from eval.rating.studies import frozen_hash
from eval.rating.tables import Item, Person, Rating, RatingVersion, Study


def read_export(text: str) -> tuple[DumpedStudy, list[DumpedItem]]:
    """A study from JSONL or Label Studio JSON of ours, answers of either. Raises BadImport."""
    try:
        if text.lstrip().startswith("["):
            tasks = json.loads(text)
            if not tasks:
                raise BadImport("the file has no tasks")
            study = DumpedStudy(**tasks[0]["data"]["headscribe"]["study"])
            return study, [item_of_task(task) for task in tasks]
        first, *rest = [json.loads(line) for line in text.splitlines() if line.strip()]
        return DumpedStudy(**first["study"]), [DumpedItem(**line) for line in rest]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ValidationError) as error:
        raise BadImport(
            "this is no export of a study",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="JSONL or Label Studio JSON as `rate-heads export` writes it",
        ) from error


def import_study(engine: Engine, text: str, *, by: str = "lead") -> tuple[int, int]:
    """(study, answers added). Items that are all in the database get the answers; else a new, closed study.

    Answers that are there already (same rater, same item) are left as they are. Raises BadImport.
    """
    about, items = read_export(text)
    _check_answers(items)
    with writing(engine) as session:
        known = _known(session, items)
        if known and len(known) < len(items):
            raise BadImport("only part of these items is in the database", got=f"{len(known)} of {len(items)}")
        if not known:
            known = _new_study(session, about, items)
        study_id = next(iter(known.values())).study_id
        added = sum(_add(session, known[item.item], rating) for item in items for rating in item.ratings)
        add_event(session, "imported", who=by, study_id=study_id, answers=added)
        return study_id, added


def _check_answers(items: list[DumpedItem]) -> None:
    if not items:
        raise BadImport("the file has no items")
    for item in items:
        for rating in item.ratings:
            if problems := rating.answer().problems():
                raise BadImport(f"the answer of {rating.rater} to item {item.item}: {problems}")


def _known(session: Session, items: list[DumpedItem]) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for dumped in items:
        item = session.scalar(select(Item).where(Item.public_id == dumped.item))
        if item is not None:
            if item.content_hash != content_hash(dumped.content):
                raise BadImport("an item in the file differs from the one here", got=dumped.item)
            found[dumped.item] = item
    return found


def _new_study(session: Session, about: DumpedStudy, items: list[DumpedItem]) -> dict[str, Item]:
    now = time.time()
    study = Study(
        name=storable(about.name), state="closed", k=about.k, seed=about.seed, settings=about.settings, created=now
    )
    study.launched = study.closed = now
    session.add(study)
    session.flush()
    for dumped in items:
        values = dumped.model_dump(exclude={"ratings", "item"})
        values |= {"public_id": dumped.item, "content_hash": content_hash(dumped.content)}
        session.add(Item(study_id=study.id, **values))
    session.flush()
    session.refresh(study)
    study.content_hash = frozen_hash(study)
    if about.content_hash is not None and study.content_hash != about.content_hash:
        raise BadImport("the items do not match the study's content hash", got=study.content_hash[:12])
    return {item.public_id: item for item in study.items}


def _add(session: Session, item: Item, given: DumpedRating) -> bool:
    person = _person(session, item.study_id, given)
    where = (Rating.item_id == item.id, Rating.rater_id == person.id)
    if session.scalar(select(Rating.id).where(*where)) is not None:
        return False
    names = ("pattern", "plausible", "skip_reason", "counted", "version", "created", "updated")
    rating = Rating(
        study_id=item.study_id,
        item_id=item.id,
        rater_id=person.id,
        note=storable(given.note),
        **{name: getattr(given, name) for name in names},
    )
    session.add(rating)
    session.flush()
    first = {"version": given.version, "at": given.updated, **asdict(given.answer())}
    for old in given.history or [first]:
        answer = {name: value for name, value in old.items() if name not in ("version", "at")}
        version, at = int(old["version"]), float(old["at"])
        session.add(RatingVersion(rating_id=rating.id, version=version, answer=answer, at=at))
    return True


def _person(session: Session, study_id: int, given: DumpedRating) -> Person:
    query = select(Person).where(Person.study_id == study_id, Person.name == given.rater)
    person = session.scalar(query)
    if person is None:
        role = "rater" if given.judge is None else "judge"
        person = Person(study_id=study_id, name=given.rater, role=role, judge=given.judge, created=time.time())
        session.add(person)
        session.flush()
    return person
