"""Programs as raters, always marked: a lexical judge that needs no model, and any callable (an LLM) as a judge.

A judge sees exactly what people see. Its answers stand beside theirs in every report and are never mixed in.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel
from sqlalchemy import Engine, select

from agent.errors import ModelFault
from agent.runs.database import writing
from eval.errors import BadStudy
from eval.rating.ratings import Answer
from eval.rating.store import add_event
from eval.rating.studies import get_study
from eval.rating.tables import REGULAR_KINDS, Item, Person, Rating, RatingVersion
from prompts import load_prompts

if TYPE_CHECKING:
    from agent.llm.options import ModelOptions
    from agent.llm.protocol import LanguageModel

TEMPLATE = "rate_judge"
Judge = Callable[[dict[str, Any]], Answer]  # an item's content -> its answer; may raise HeadscribeError


def lexical_judge(content: dict[str, Any]) -> Answer:
    """Judges by form alone: do rows share one simple relation, and does the description speak of their words?

    Pattern: one of a few string relations (same word, first or last letter, shared stem) holds in most rows, or
    one target repeats. Plausible: the description names that relation or words of the rows. It cannot see meaning,
    and says "cannot" where form says nothing.
    """
    rows = [
        (r["source"].strip().casefold(), r["targets"][0].strip().casefold()) for r in content["rows"] if r["targets"]
    ]
    said = " ".join(str(v) for v in content["description"].values()).casefold()
    if not rows:
        return Answer("no", "cannot")
    best = max(_RELATIONS, key=lambda name: _share(name, rows))
    if _share(best, rows) >= 0.5:
        return Answer("yes", "yes" if any(word in said for word in _NAMES[best]) else "no")
    words = {w for pair in rows for w in pair if len(w) > 3}
    return Answer("no", "partly" if any(word in said for word in words) else "cannot")


_RELATIONS: dict[str, Callable[[str, str], bool]] = {
    "same": lambda s, t: s == t,
    "first": lambda s, t: len(t) == 1 and s[:1] == t,
    "last": lambda s, t: len(t) == 1 and s[-1:] == t,
    "stem": lambda s, t: s != t and len(s) > 2 and len(t) > 2 and s[:3] == t[:3],
}
_NAMES = {
    "same": ("copy", "copies", "itself", "same", "repeat"),
    "first": ("first letter", "initial"),
    "last": ("last letter", "final letter"),
    "stem": ("form", "tense", "plural", "comparative", "superlative", "ending", "suffix", "variant"),
}


def _share(name: str, rows: list[tuple[str, str]]) -> float:
    return sum(_RELATIONS[name](s, t) for s, t in rows) / len(rows)


def run_judge(engine: Engine, study_id: int, judge: Judge, *, kind: str, name: str | None = None) -> int:
    """Let a judge answer every real and control item that it has not answered; returns how many.

    `kind` says what the program is, for example "lexical" or "openai:gpt-4o, prompt 1f0c". What was
    judged before an error is kept. Raises BadStudy, and what the judge raises.
    """
    shown = (name or f"judge {kind}")[:100]
    with writing(engine) as session:
        study = get_study(session, study_id)
        if study.state == "draft":
            raise BadStudy("a judge rates launched studies", got=study.state)
        query = select(Person).where(Person.study_id == study_id, Person.name == shown)
        person = session.scalar(query)
        if person is None:
            person = Person(study_id=study_id, name=shown, role="judge", judge=kind[:200], created=time.time())
            session.add(person)
            session.flush()
        if person.role != "judge":
            raise BadStudy("this name belongs to a person", got=shown)
        rated = select(Rating.item_id).where(Rating.rater_id == person.id)
        todo = select(Item).where(Item.study_id == study_id, Item.kind.in_(REGULAR_KINDS), Item.id.not_in(rated))
        items = list(session.scalars(todo))
    for item in items:
        _keep(engine, item, person, judge(item.content))
    return len(items)


def _keep(engine: Engine, item: Item, person: Person, answer: Answer) -> None:
    now = time.time()
    with writing(engine) as session:
        rating = Rating(study_id=item.study_id, item_id=item.id, rater_id=person.id, created=now, updated=now)
        rating.pattern, rating.plausible, rating.note = answer.pattern, answer.plausible, answer.note
        rating.skip_reason = answer.skip_reason
        session.add(rating)
        session.flush()
        session.add(RatingVersion(rating_id=rating.id, version=1, answer=asdict(answer), at=now))
        facts = {"study_id": item.study_id, "item_id": item.id, "judge": person.judge}
        add_event(session, "judged", who=person.name, **facts)  # type: ignore[arg-type]


class JudgeAnswer(BaseModel):
    """What a language model says of one item."""

    pattern: Literal["yes", "no"]
    plausible: Literal["yes", "partly", "no", "cannot"]


def judge_prompt(content: dict[str, Any]) -> str:
    """The question about one item; tokens and description are quoted data between marks that they cannot know."""
    from agent.describers.prompting import as_data, as_sentence

    rows = "\n".join(f"{as_data(r['source'])} -> {', '.join(map(as_data, r['targets']))}" for r in content["rows"])
    said = as_sentence(" ".join(content["description"].values()))
    mark = hashlib.sha256(f"{rows}{said}".encode()).hexdigest()[:8]
    return load_prompts().templates[TEMPLATE].fill(rows=rows, description=said, mark=mark)


def model_judge(model: LanguageModel) -> Judge:
    """A judge that asks a language model; no usable answer becomes a skip with its reason.

    It raises ModelDown and BudgetSpent: no further item would fare better.
    """

    def judge(content: dict[str, Any]) -> Answer:
        try:
            said = model.ask(judge_prompt(content), JudgeAnswer).answer
        except ModelFault as fault:
            return Answer(skip_reason=f"no usable reply ({fault.kind})")
        return Answer(said.pattern, said.plausible)

    return judge


def make_judge(name: str, *, options: ModelOptions | None = None) -> tuple[str, Judge]:
    """(kind, judge) of `lexical` or of a language model such as `openai:MODEL`; the kind names the prompt's version.

    Raises BadStudy for another name, UnknownDescriber, ExtraMissing.
    """
    if name == "lexical":
        return name, lexical_judge
    if ":" not in name:
        raise BadStudy("no such judge", got=name, expected="lexical, openai:MODEL or another language model")
    from agent.llm.models import open_language_model

    version = load_prompts().templates[TEMPLATE].version
    return f"{name}, prompt {version}", model_judge(open_language_model(name, options=options))
