"""The lead's verdicts, and the way of approved descriptions back to the store of known operations."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, select

from agent.database import writing
from agent.records import storable
from eval.agreement import majority
from eval.errors import BadAnswer, BadStudy
from eval.rating.answers import FinalRating, adjudications, final_ratings
from eval.rating.store import add_event
from eval.rating.tables import Adjudication, Item

VERDICTS = ("yes", "partly", "no")


@dataclass(frozen=True)
class Approved:
    """A description that most raters (or the lead) call plausible, with examples from its rows."""

    operation: str
    description: str
    examples: tuple[tuple[str, str], ...]
    category: str
    origin: dict[str, object]


Add = Callable[[Approved], None]


def adjudicate(engine: Engine, study_id: int, public_id: str, *, verdict: str, note: str, by: str) -> None:
    """Keep the lead's verdict on an item; a second one replaces the first, both stay in the trail."""
    if verdict not in VERDICTS:
        raise BadAnswer("unknown verdict", got=verdict, expected=", ".join(VERDICTS))
    with writing(engine) as session:
        item = session.scalar(select(Item).where(Item.public_id == public_id, Item.study_id == study_id))
        if item is None or item.kind != "real":
            raise BadStudy("no such item to adjudicate", got=public_id)
        found = session.scalar(select(Adjudication).where(Adjudication.item_id == item.id))
        if found is None:
            found = Adjudication(item_id=item.id)
            session.add(found)
        found.verdict, found.note, found.by, found.at = verdict, storable(note[:2000]), by[:100], time.time()
        add_event(session, "adjudicated", who=by, study_id=study_id, item_id=item.id, verdict=verdict)


def approved_descriptions(engine: Engine, study_id: int, *, min_raters: int = 2) -> list[Approved]:
    """Real items whose lead's verdict is yes, or without one, that a majority of >= min_raters calls plausible."""
    by_item: dict[str, list[FinalRating]] = defaultdict(list)
    for rating in final_ratings(engine, study_id):
        if rating.kind == "real" and rating.judge is None and rating.usable:
            by_item[rating.item].append(rating)
    verdicts = adjudications(engine, study_id)
    return [
        _approved(answers[0])
        for item, answers in by_item.items()
        if (verdicts[item].verdict == "yes" if item in verdicts else _liked(answers, min_raters))
    ]


def _liked(answers: list[FinalRating], min_raters: int) -> bool:
    values = [a.plausible == "yes" for a in answers if a.plausible != "cannot"]
    return len(values) >= min_raters and majority(values) is True


def _approved(rating: FinalRating) -> Approved:
    text = rating.content["description"]
    rows = rating.content["rows"][:10]
    examples = tuple((r["source"].strip(), r["targets"][0].strip()) for r in rows if r["targets"])
    return Approved(
        operation=str(rating.origin.get("operation") or text["observed_pattern"]),
        description=f"{text['input_strings']} {text['observed_pattern']}".strip(),
        examples=examples,
        category=str(rating.origin.get("category") or ""),
        origin=rating.origin,
    )


def approve(engine: Engine, study_id: int, add: Add, *, by: str = "lead", min_raters: int = 2) -> int:
    """Hand every approved description to `add` (the store of known operations); returns how many."""
    found = approved_descriptions(engine, study_id, min_raters=min_raters)
    for description in found:
        add(description)
    with writing(engine) as session:
        add_event(session, "approved to known operations", who=by, study_id=study_id, n=len(found))
    return len(found)
