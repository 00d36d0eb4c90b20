"""Reads the answers of a study for statistics and export: final values only, people and judges kept apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.runs.database import reading
from eval.rating.studies import get_study, verify
from eval.rating.tables import Adjudication, Item, Person, Rating, RatingVersion, Study
from eval.statistics.agreement import Answered


@dataclass(frozen=True)
class FinalRating:
    """One current answer with all that is known of its item."""

    item: str  # public id
    position: int
    kind: str
    content: dict[str, Any]
    origin: dict[str, Any]
    rater: str
    judge: str | None  # what kind of program; None for a person
    pattern: str | None
    plausible: str | None
    note: str
    skip_reason: str | None
    counted: bool
    version: int
    created: float
    updated: float
    history: tuple[dict[str, Any], ...] = ()

    @property
    def usable(self) -> bool:
        """Counts in rates and coefficients: not skipped, not late."""
        return self.counted and self.skip_reason is None


def final_ratings(engine: Engine, study_id: int, *, history: bool = False) -> list[FinalRating]:
    """All current answers in order of items and raters. Raises BadStudy, ContentChanged."""
    with reading(engine) as session:
        study = get_study(session, study_id)
        verify(session, study)
        return list(_ratings(session, study, history))


def _ratings(session: Session, study: Study, history: bool) -> Iterator[FinalRating]:
    versions = _versions(session, study) if history else {}
    query = (
        select(Rating, Item, Person)
        .join(Item, Rating.item_id == Item.id)
        .join(Person, Rating.rater_id == Person.id)
        .where(Rating.study_id == study.id)
        .order_by(Item.position, Person.name)
    )
    for rating, item, person in session.execute(query):
        names = ("pattern", "plausible", "note", "skip_reason", "counted", "version", "created", "updated")
        yield FinalRating(
            item=item.public_id,
            position=item.position,
            kind=item.kind,
            content=item.content,
            origin=item.origin,
            rater=person.name,
            judge=person.judge if person.role == "judge" else None,
            history=tuple(versions.get(rating.id, ())),
            **{name: getattr(rating, name) for name in names},
        )


def _versions(session: Session, study: Study) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    query = select(RatingVersion).join(Rating).where(Rating.study_id == study.id)
    for v in session.scalars(query.order_by(RatingVersion.rating_id, RatingVersion.version)):
        found.setdefault(v.rating_id, []).append({"version": v.version, "at": v.at, **v.answer})
    return found


def answered(
    ratings: list[FinalRating], question: str, *, kind: str = "real", judge: str | None = None
) -> list[Answered]:
    """The usable answers of people (or of one judge) to `pattern` or `plausible`; "cannot" is no answer."""
    return [
        Answered(r.item, r.rater, value)
        for r in ratings
        if r.usable and r.kind == kind and r.judge == judge
        for value in [getattr(r, question)]
        if value is not None and value != "cannot"
    ]


def adjudications(engine: Engine, study_id: int) -> dict[str, Adjudication]:
    """The lead's verdicts by public id of the item (detached)."""
    with reading(engine) as session:
        query = select(Item.public_id, Adjudication).join(Item).where(Item.study_id == study_id)
        found: dict[str, Adjudication] = {public: verdict for public, verdict in session.execute(query)}  # noqa: C416
        session.expunge_all()
        return found
