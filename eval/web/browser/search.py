"""Search in one run: by token read, promoted or suppressed, words of the description, operation, kind of attention.

Tokens go through the index of folded terms (a prefix is a range of the index); descriptions are a few thousand
short texts and are scanned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, Engine, and_, func, or_, select
from sqlalchemy.orm import Session

from agent.runs.database import reading
from agent.runs.head_rows import fold
from agent.runs.records import DescriptionRecord, HeadRecord, RunRecord, SearchTermRecord, storable
from eval.web.browser.browse_data import HeadLine, find_model, find_run, lines_of

Where = Literal["all", "reads", "promotes", "suppresses", "description", "operation", "attention"]
WHERES: tuple[Where, ...] = ("all", "reads", "promotes", "suppresses", "description", "operation", "attention")
_SIDES = {"reads": "source", "promotes": "target", "suppresses": "suppressed"}


@dataclass(frozen=True)
class Hit:
    """A head and why it was found, best first."""

    line: HeadLine
    why: tuple[str, ...]


def search(
    engine: Engine, slug: str, query: str, *, where: Where = "all", run_id: int | None = None, limit: int = 60
) -> tuple[list[Hit], int]:
    """(the best hits, how many heads in all). An empty query finds nothing. Raises UnknownRun."""
    text = storable(query).strip()
    if not text:
        return [], 0
    with reading(engine) as session:
        run = find_run(session, find_model(session, slug), run_id)
        reasons: dict[int, list[tuple[int, str]]] = {}
        for kind in WHERES[1:] if where == "all" else (where,):
            for head_id, rank, why in _found(session, run.id, kind, text, alone=where != "all"):
                reasons.setdefault(head_id, []).append((rank, why))
        best = sorted(reasons, key=lambda head_id: (min(reasons[head_id])[0], head_id))
        lines = _lines_by_id(session, run, best[:limit])
    hits = [Hit(lines[i], tuple(dict.fromkeys(why for _, why in sorted(reasons[i])))[:4]) for i in best[:limit]]
    return hits, len(best)


def _lines_by_id(session: Session, run: RunRecord, ids: list[int]) -> dict[int, HeadLine]:
    order = select(HeadRecord.id).where(HeadRecord.id.in_(ids)).order_by(HeadRecord.layer, HeadRecord.head)
    return dict(zip(session.scalars(order), lines_of(session, run, ids), strict=True))


def _found(session: Session, run_id: int, kind: str, text: str, *, alone: bool) -> list[tuple[int, int, str]]:
    """(head id, rank, reason); rank 0 is best, an exact token before a prefix, a name before a sentence."""
    if kind in _SIDES:
        return _by_token(session, run_id, kind, fold(text))
    if kind == "attention":
        return _by_attention(session, run_id, text.casefold(), whole=not alone)
    folded = text.casefold()
    of_parts = DescriptionRecord.operation_names.contains(folded, autoescape=True)
    by_name = or_(func.lower(DescriptionRecord.operation).contains(folded, autoescape=True), of_parts)
    by_words = DescriptionRecord.search_text.contains(folded, autoescape=True)
    base = 5 if kind == "operation" else 40
    query = (
        select(HeadRecord.id, DescriptionRecord.operation)
        .join(DescriptionRecord)
        .where(
            HeadRecord.run_id == run_id,
            DescriptionRecord.status == "ok",
            by_name if kind == "operation" else by_words,
        )
    )
    reason = "operation" if kind == "operation" else "in the description"
    return [(head_id, base, reason) for head_id, _ in session.execute(query)]


def _by_attention(session: Session, run_id: int, text: str, *, whole: bool) -> list[tuple[int, int, str]]:
    """By the kind of attention, also of heads that have no description; `whole`: by its whole name alone."""
    query = select(HeadRecord.id, HeadRecord.attention_kinds).where(
        HeadRecord.run_id == run_id, HeadRecord.attention_kinds.contains(text, autoescape=True)
    )
    return [
        (head_id, 0 if text in named.splitlines() else 5, f"attention: {', '.join(named.splitlines())}")
        for head_id, named in session.execute(query)
        if not whole or text in named.splitlines()
    ]


def _prefix(session: Session, term: str) -> ColumnElement[bool]:
    """Terms that begin with `term`: a range of the index where texts are ordered by code point."""
    if session.get_bind().dialect.name == "sqlite":
        return and_(SearchTermRecord.term >= term, SearchTermRecord.term < term + "\U0010ffff")
    return SearchTermRecord.term.startswith(term, autoescape=True)


def _by_token(session: Session, run_id: int, kind: str, term: str) -> list[tuple[int, int, str]]:
    columns = (SearchTermRecord.head_id, SearchTermRecord.term, func.min(SearchTermRecord.best_rank))
    query = (
        select(*columns)
        .where(
            SearchTermRecord.run_id == run_id,
            SearchTermRecord.side == _SIDES[kind],
            _prefix(session, term),
        )
        .group_by(SearchTermRecord.head_id, SearchTermRecord.term)
    )
    return [
        (head_id, rank + (0 if found == term else 100), f"{kind} {found[:30]}")
        for head_id, found, rank in session.execute(query)
        if found.startswith(term)
    ]
