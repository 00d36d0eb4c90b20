"""Studies out of and into the database: CSV, JSONL, Label Studio JSON.

CSV is for spreadsheets (one line per current answer; cells that a spreadsheet would run are defused). JSONL and
Label Studio JSON hold the whole study, history included, and can be read back: into a new study, or, when the
items are in this database already, as further answers to them.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.output.cells import safe_cell
from agent.runs.database import reading, writing
from agent.runs.identity import content_hash
from agent.runs.records import storable
from eval.errors import BadImport
from eval.rating.answers import FinalRating, final_ratings
from eval.rating.ratings import Answer
from eval.rating.store import add_event
from eval.rating.studies import frozen_hash, get_study
from eval.rating.tables import Item, Person, Rating, RatingVersion, Study

FORMATS = ("csv", "jsonl", "label-studio")
_ABOUT_ITEM = ["item", "kind", "model", "layer", "head", "describer", "category", "operation"]
_ANSWER = ["rater", "judge", "pattern", "plausible", "note", "skip_reason"]
_STATE = ["counted", "version", "created", "updated", "input_strings", "observed_pattern"]
_COLUMNS = _ABOUT_ITEM + _ANSWER + _STATE


class DumpedRating(BaseModel):
    """One current answer with its history."""

    rater: str = Field(min_length=1, max_length=100)
    judge: str | None = None
    pattern: str | None = None
    plausible: str | None = None
    note: str = ""
    skip_reason: str | None = None
    counted: bool = True
    version: int = Field(default=1, ge=1)
    created: float = 0.0
    updated: float = 0.0
    history: list[dict[str, Any]] = Field(default_factory=list)

    def answer(self) -> Answer:
        """The answer itself."""
        return Answer(self.pattern, self.plausible, self.note, self.skip_reason)


class DumpedItem(BaseModel):
    """One item with its answers."""

    item: str = Field(min_length=1, max_length=32)
    kind: str = Field(pattern="^(real|control|attention|practice)$")
    position: int
    content: dict[str, Any]
    origin: dict[str, Any]
    expected: dict[str, Any] | None = None
    ratings: list[DumpedRating] = Field(default_factory=list)


class DumpedStudy(BaseModel):
    """What is said once per study."""

    name: str
    k: int
    seed: int
    settings: dict[str, Any]
    content_hash: str | None = None


def dump(engine: Engine, study_id: int) -> tuple[DumpedStudy, list[DumpedItem]]:
    """A study with all its items and answers. Raises BadStudy, ContentChanged."""
    by_item: dict[str, list[DumpedRating]] = {}
    for rating in final_ratings(engine, study_id, history=True):
        by_item.setdefault(rating.item, []).append(_dumped(rating))
    with reading(engine) as session:
        study = get_study(session, study_id)
        facts = ("name", "k", "seed", "settings", "content_hash")
        about = DumpedStudy(**{name: getattr(study, name) for name in facts})
        names = ("kind", "position", "content", "origin", "expected")
        items = [
            DumpedItem(
                item=item.public_id,
                ratings=by_item.get(item.public_id, []),
                **{name: getattr(item, name) for name in names},
            )
            for item in study.items
        ]
    return about, items


def _dumped(rating: FinalRating) -> DumpedRating:
    names = DumpedRating.model_fields
    return DumpedRating(
        **{name: value for name, value in asdict(rating).items() if name in names} | {"history": list(rating.history)}
    )


def export(engine: Engine, study_id: int, fmt: str) -> str:
    """The study in one of FORMATS. Raises BadImport for another format."""
    if fmt not in FORMATS:
        raise BadImport("unknown format", got=fmt, expected=", ".join(FORMATS))
    if fmt == "csv":
        return as_csv(final_ratings(engine, study_id))
    about, items = dump(engine, study_id)
    if fmt == "jsonl":
        first = json.dumps({"study": about.model_dump()})
        return "".join(line + "\n" for line in (first, *(json.dumps(item.model_dump()) for item in items)))
    return json.dumps([_task(about, item) for item in items], indent=1)


def as_csv(ratings: Iterable[FinalRating]) -> str:
    """Current answers, one a line, with the formula cells of hostile notes and tokens defused."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for r in ratings:
        values = asdict(r) | r.origin | r.content["description"]
        writer.writerow([safe_cell(values.get(name)) for name in _COLUMNS])
    return out.getvalue()


def _task(about: DumpedStudy, item: DumpedItem) -> dict[str, Any]:
    """One Label Studio task: what to show in `data`, answers as choices and text areas."""
    description = item.content["description"]
    shown = [{"source": r["source"], "targets": " | ".join(r["targets"])} for r in item.content["rows"]]
    whole = item.model_dump(exclude={"ratings"})
    return {
        "data": {
            "rows": shown,
            "description": f"{description['input_strings']} {description['observed_pattern']}".strip(),
            "headscribe": {"study": about.model_dump(), **whole},
        },
        "annotations": [_annotation(rating) for rating in item.ratings],
    }


def _annotation(rating: DumpedRating) -> dict[str, Any]:
    result = [
        {"from_name": name, "to_name": "rows", "type": "choices", "value": {"choices": [value]}}
        for name, value in (("pattern", rating.pattern), ("plausible", rating.plausible))
        if value is not None
    ]
    result += [
        {"from_name": name, "to_name": "rows", "type": "textarea", "value": {"text": [value]}}
        for name, value in (("note", rating.note), ("skip_reason", rating.skip_reason))
        if value
    ]
    return {
        "completed_by": {"email": rating.rater, "first_name": rating.rater},
        "was_cancelled": rating.skip_reason is not None,
        "created_at": datetime.fromtimestamp(rating.created, UTC).isoformat(),
        "updated_at": datetime.fromtimestamp(rating.updated, UTC).isoformat(),
        "result": result,
        "meta": rating.model_dump(include={"judge", "counted", "version", "created", "updated", "history"}),
    }


def read_export(text: str) -> tuple[DumpedStudy, list[DumpedItem]]:
    """A study from JSONL or Label Studio JSON of ours, answers of either. Raises BadImport."""
    try:
        if text.lstrip().startswith("["):
            tasks = json.loads(text)
            if not tasks:
                raise BadImport("the file has no tasks")
            study = DumpedStudy(**tasks[0]["data"]["headscribe"]["study"])
            return study, [_item_of(task) for task in tasks]
        first, *rest = [json.loads(line) for line in text.splitlines() if line.strip()]
        return DumpedStudy(**first["study"]), [DumpedItem(**line) for line in rest]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ValidationError) as error:
        raise BadImport(
            "this is no export of a study",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="JSONL or Label Studio JSON as `rate-heads export` writes it",
        ) from error


def _item_of(task: dict[str, Any]) -> DumpedItem:
    known = {name: v for name, v in task["data"]["headscribe"].items() if name != "study"}
    return DumpedItem(**known, ratings=[_rating_of(given) for given in task.get("annotations", [])])


def _rating_of(given: dict[str, Any]) -> DumpedRating:
    said: dict[str, str] = {}
    for part in given.get("result", []):
        value = part["value"].get("choices") or part["value"].get("text") or [""]
        said[str(part["from_name"])] = value if isinstance(value, str) else str(value[0])
    answer = {name: said.get(name) for name in ("pattern", "plausible", "skip_reason")}
    if given.get("was_cancelled") and not answer["skip_reason"]:
        answer["skip_reason"] = "cancelled in Label Studio"
    meta = given.get("meta") or {}
    times = {name: _seconds(given.get(f"{name}_at")) for name in ("created", "updated")}
    return DumpedRating(rater=_name(given), note=said.get("note", ""), **(times | answer | meta))


def _name(given: dict[str, Any]) -> str:
    by = given.get("completed_by", "unknown")
    return str(by.get("email") or by.get("id")) if isinstance(by, dict) else str(by)


def _seconds(text: str | None) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0


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
