"""Programs as raters, always marked.

A judge sees exactly what people see. Its answers stand beside theirs in every report and are never mixed in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import nan
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.runs.database import writing
from eval.errors import BadStudy
from eval.judges.language_model import STUDY_TEMPLATE
from eval.judges.opening import open_judge
from eval.judges.protocol import Judge
from eval.judges.said import Said
from eval.rating.ratings import Answer
from eval.rating.store import add_event
from eval.rating.studies import get_study
from eval.rating.tables import REGULAR_KINDS, Item, Person, Rating, RatingVersion
from maps_engine.results import MappingRow, ScoredToken
from prompts import load_prompts

if TYPE_CHECKING:
    from agent.llm.options import ModelOptions

LEXICAL = "lexical"
NO_ID = -1  # items hold texts of tokens, without the vocabulary they are of


def make_judge(name: str, *, options: ModelOptions | None = None) -> tuple[str, Judge]:
    """(kind, judge) of `lexical` or of a language model such as `openai:MODEL`; the kind names the prompt's version.

    Raises BadStudy for another name, UnknownDescriber, ExtraMissing.
    """
    if name == LEXICAL:
        return name, open_judge(name)
    if ":" not in name:
        raise BadStudy("no such judge", got=name, expected="lexical, openai:MODEL or another language model")
    return f"{name}, prompt {load_prompts().templates[STUDY_TEMPLATE].version}", open_judge(name, options=options)


def run_judge(engine: Engine, study_id: int, judge: Judge, *, kind: str, name: str | None = None) -> int:
    """Let a judge answer every real and control item that it has not answered; returns how many.

    `kind` says what the program is, for example "lexical" or "openai:gpt-4o, prompt 1f0c". What was
    judged before an error is kept. Raises BadStudy, and what the judge raises.
    """
    shown = (name or f"judge {kind}")[:100]
    with writing(engine) as session:
        if (state := get_study(session, study_id).state) == "draft":
            raise BadStudy("a judge rates launched studies", got=state)
        person = _person(session, study_id, shown, kind)
        rated = select(Rating.item_id).where(Rating.rater_id == person.id)
        todo = select(Item).where(Item.study_id == study_id, Item.kind.in_(REGULAR_KINDS), Item.id.not_in(rated))
        items = list(session.scalars(todo))
    for item in items:
        _keep(engine, item, person, answer_of(judge, item.content))
    return len(items)


def answer_of(judge: Judge, content: Mapping[str, Any]) -> Answer:
    """The judge's answer on the content of an item; without one, a skip with its reason."""
    found = judge.assess(_said(content), _rows(content["rows"]), _rows(content.get("tested_rows", ())))
    return Answer(found.pattern, found.plausible, skip_reason=found.why or None)


def _said(content: Mapping[str, Any]) -> Said:
    text: Mapping[str, str] = content["description"]
    return Said("", text.get("input_strings", ""), text.get("observed_pattern", ""))


def _rows(shown: Sequence[Mapping[str, Any]]) -> list[MappingRow]:
    """Rows of texts; ids and scores are not shown to raters."""
    return [
        MappingRow(row["source"], NO_ID, nan, tuple(ScoredToken(text, NO_ID, nan) for text in row["targets"]))
        for row in shown
    ]


def _person(session: Session, study_id: int, name: str, kind: str) -> Person:
    """The judge's place among the raters, made where it is new. Raises BadStudy for the name of a person."""
    person = session.scalar(select(Person).where(Person.study_id == study_id, Person.name == name))
    if person is None:
        person = Person(study_id=study_id, name=name, role="judge", judge=kind[:200], created=time.time())
        session.add(person)
        session.flush()
    if person.role != "judge":
        raise BadStudy("this name belongs to a person", got=name)
    return person


def _keep(engine: Engine, item: Item, person: Person, answer: Answer) -> None:
    now = time.time()
    with writing(engine) as session:
        rating = Rating(study_id=item.study_id, item_id=item.id, rater_id=person.id, created=now, updated=now)
        rating.pattern, rating.plausible, rating.note = answer.pattern, answer.plausible, answer.note
        rating.skip_reason = answer.skip_reason
        session.add(rating)
        session.flush()
        session.add(RatingVersion(rating_id=rating.id, version=1, answer=asdict(answer), at=now))
        about = {"study_id": item.study_id, "item_id": item.id}
        add_event(session, "judged", who=person.name, **about, judge=person.judge)
