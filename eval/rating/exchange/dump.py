"""A whole study as plain values, history included: what JSONL and Label Studio JSON hold."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import Engine

from agent.runs.database import reading
from eval.rating.answers import FinalRating, final_ratings
from eval.rating.ratings import Answer
from eval.rating.studies import get_study


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
    """A study with all its items and answers. Raises NotFound, ContentChanged."""
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
