"""The lead's verdicts, and the way of approved descriptions back to the store of known operations."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select

from agent.operations.additions import Additions, operation_of_head
from agent.operations.operation import KnownOperation
from agent.runs.database import writing
from agent.runs.records import storable
from eval.errors import BadAnswer, NotFound
from eval.rating.answers import FinalRating, adjudications, final_ratings
from eval.rating.store import add_event
from eval.rating.tables import Adjudication, Item
from eval.statistics.agreement import majority

VERDICTS = ("yes", "partly", "no")


@dataclass(frozen=True)
class Approved:
    """A description that most raters (or the lead) call plausible, as an operation with its rows as examples."""

    operation: KnownOperation
    origin: dict[str, object]  # of the rated item: model, run, layer, head…


Add = Callable[[Sequence[KnownOperation]], Additions]


def adjudicate(engine: Engine, study_id: int, public_id: str, *, verdict: str, note: str, by: str) -> None:
    """Keep the lead's verdict on an item; a second one replaces the first, both stay in the trail."""
    if verdict not in VERDICTS:
        raise BadAnswer("unknown verdict", got=verdict, expected=", ".join(VERDICTS))
    with writing(engine) as session:
        item = session.scalar(select(Item).where(Item.public_id == public_id, Item.study_id == study_id))
        if item is None or item.kind != "real":
            raise NotFound("no such item to adjudicate", got=public_id)
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
        _approved(study_id, answers[0])
        for item, answers in by_item.items()
        if (verdicts[item].verdict == "yes" if item in verdicts else _liked(answers, min_raters))
    ]


def _liked(answers: list[FinalRating], min_raters: int) -> bool:
    values = [a.plausible == "yes" for a in answers if a.plausible != "cannot"]
    return len(values) >= min_raters and majority(values) is True


def _approved(study_id: int, rating: FinalRating) -> Approved:
    text, origin = rating.content["description"], rating.origin
    rows = ((row["source"], row["targets"]) for row in rating.content["rows"])
    place = f"{origin['model']}, layer {origin['layer']}, head {origin['head']}, approved in study {study_id}"
    operation = operation_of_head(
        str(origin.get("operation") or text["observed_pattern"]),
        f"{text['input_strings']} {text['observed_pattern']}",
        rows,
        origin=place,
    )
    return Approved(operation, origin)


def approve(engine: Engine, study_id: int, add: Add, *, by: str = "lead", min_raters: int = 2) -> Additions:
    """Hand all approved operations to `add` (`agent.operations.additions.add_operations` of an open store)."""
    found = approved_descriptions(engine, study_id, min_raters=min_raters)
    done = add([one.operation for one in found])
    with writing(engine) as session:
        added, known = list(done.added), list(done.in_catalogue)
        add_event(session, "approved to known operations", who=by, study_id=study_id, added=added, in_catalogue=known)
    return done
