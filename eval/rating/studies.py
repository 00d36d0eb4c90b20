"""Studies from draft to closed: create, preview, launch (freezes the content), close."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.runs.database import reading, writing
from agent.runs.identity import content_hash
from agent.runs.records import storable
from eval.errors import BadStudy, ContentChanged, NotFound
from eval.rating.heads.choice import choose_heads
from eval.rating.heads.described import Head, by_operation
from eval.rating.items import (
    NewItem,
    Reread,
    control_items,
    hand_made_items,
    mixed_order,
    real_items,
)
from eval.rating.store import add_event
from eval.rating.tables import REGULAR_KINDS, Event, Item, Person, Slot, Study

INSTRUCTIONS = """\
You will see rows of short strings. Each row shows a source string and the strings it is mapped to, strongest first.
Answer two questions for each set of rows.

1. Is there a pattern in the mappings? Answer from the rows alone.
2. Is the description plausible? It is when it fits most of the rows, or as many as it says: "often" is fewer than
   three in four, "sometimes" fewer than two in five. Details may be missing. Where rows of words that the description
   is about stand above the others, it should fit those.

A small open box marks a leading space. Some strings are parts of words, other languages, or code.
Take your time; there is no trick, and "cannot judge" is a good answer when you do not know the subject."""


@dataclass(frozen=True)
class StudySettings:
    """What a lead decides about a study."""

    n_heads: int | None = None  # None: every described head that fits
    first_layer: int | None = None
    last_layer: int | None = None
    stratify: bool = True
    control_share: float = 0.2
    practice: int = 2
    attention: int = 2
    pattern_first: bool = True  # question 1 is answered before the description shows
    lease_minutes: float = 30.0
    items_per_rater: int | None = None
    each_operation: bool = False  # one item for each operation of a head that a test supports
    instructions: str = INSTRUCTIONS
    source: str = ""  # where the heads come from, for the report


def create_study(
    engine: Engine,
    *,
    name: str,
    heads: Sequence[Head],
    k: int = 3,
    seed: int = 0,
    settings: StudySettings | None = None,
    by: str = "lead",
    reread: Reread | None = None,
) -> int:
    """A draft with its items chosen; returns its number. Raises BadStudy.

    With `reread` (`eval.rating.swapped_rows`) items show rows of the words that their descriptions were tested on.
    """
    chosen = settings or StudySettings()
    _check(name, k, chosen)
    items = _make_items(heads, seed, chosen, reread)
    with writing(engine) as session:
        study = Study(name=storable(name.strip()), k=k, seed=seed, settings=asdict(chosen), created=time.time())
        session.add(study)
        session.flush()
        session.add_all(_record(study.id, position, item) for position, item in enumerate(items))
        add_event(session, "study created", who=by, study_id=study.id, items=len(items), k=k, seed=seed)
        return study.id


def _check(name: str, k: int, settings: StudySettings) -> None:
    problems = {
        "the study needs a name of at most 200 characters": 0 < len(name.strip()) <= 200,
        "raters per description must be between 1 and 50": 1 <= k <= 50,
        "the share of control items must be between 0 and 1": 0 <= settings.control_share <= 1,
        "leases must last between 1 and 1440 minutes": 1 <= settings.lease_minutes <= 1440,
        "the number of heads must be positive": settings.n_heads is None or settings.n_heads > 0,
        "items per rater must be positive": settings.items_per_rater is None or settings.items_per_rater > 0,
        "practice and attention items cannot be negative": min(settings.practice, settings.attention) >= 0,
    }
    wrong = [text for text, fine in problems.items() if not fine]
    if wrong:
        raise BadStudy("; ".join(wrong))


def _make_items(heads: Sequence[Head], seed: int, settings: StudySettings, reread: Reread | None) -> list[NewItem]:
    rng = random.Random(seed)
    layers = None
    if settings.first_layer is not None or settings.last_layer is not None:
        last = settings.last_layer if settings.last_layer is not None else 10**6
        layers = range(settings.first_layer or 0, last + 1)
    chosen = choose_heads(heads, n=settings.n_heads, layers=layers, stratify=settings.stratify, rng=rng)
    shown, everybody = (by_operation(some) if settings.each_operation else some for some in (chosen, heads))
    items = hand_made_items("practice", settings.practice) + hand_made_items("attention", settings.attention)
    items += real_items(shown, tested=reread is not None)
    items += control_items(shown, everybody, share=settings.control_share, rng=rng, reread=reread)
    return mixed_order(items, rng)


def _record(study_id: int, position: int, item: NewItem) -> Item:
    return Item(
        study_id=study_id,
        public_id=secrets.token_urlsafe(12),
        kind=item.kind,
        position=position,
        content=item.content,
        content_hash=item.content_hash,
        origin=item.origin,
        expected=item.expected,
    )


def launch(engine: Engine, study_id: int, *, by: str = "lead", now: float | None = None) -> str:
    """Freeze the content and make the slots; returns the content hash. Raises BadStudy unless a draft."""
    when = time.time() if now is None else now
    with writing(engine) as session:
        study = get_study(session, study_id, lock=True)
        if study.state != "draft":
            raise BadStudy("only a draft can be launched", got=study.state)
        study.state, study.launched = "launched", when
        study.content_hash = frozen_hash(study)
        rng = random.Random(study.seed)
        for item in study.items:
            if item.kind in REGULAR_KINDS:
                session.add_all(_slot(item, n, rng) for n in range(study.k))
        for person in session.scalars(select(Person).where(Person.study_id == study_id)):
            reserve_for(session, study, person)
        add_event(session, "launched", who=by, study_id=study_id, at=when, hash=study.content_hash)
        return study.content_hash


def _slot(item: Item, n: int, rng: random.Random) -> Slot:
    # Breadth first: every item gets its first rater before any gets its second.
    key = n * 1_000_000 + rng.randrange(1_000_000)
    return Slot(study_id=item.study_id, item_id=item.id, n=n, regular=True, state="free", order_key=key)


def reserve_for(session: Session, study: Study, person: Person) -> None:
    """The practice and attention items of one rater, once the study is launched."""
    if study.state != "launched" or person.role != "rater":
        return
    for item in study.items:
        if item.kind not in REGULAR_KINDS:
            session.add(
                Slot(
                    study_id=study.id,
                    item_id=item.id,
                    n=1000 + person.id,
                    regular=False,
                    state="reserved",
                    rater_id=person.id,
                    order_key=item.position,
                )
            )


def frozen_hash(study: Study) -> str:
    items = [[i.position, i.kind, content_hash(i.content), i.origin, i.expected] for i in study.items]
    return content_hash({"k": study.k, "seed": study.seed, "settings": study.settings, "items": items})


def verify(session: Session, study: Study) -> None:
    """Raises ContentChanged when a launched study is not what was frozen."""
    if study.content_hash is not None and frozen_hash(study) != study.content_hash:
        raise ContentChanged(
            "the items of this study were changed after its launch",
            got=frozen_hash(study)[:12],
            expected=study.content_hash[:12],
            next_step="Restore the database from a backup; numbers from it cannot be trusted.",
        )


def close_study(engine: Engine, study_id: int, *, by: str = "lead", now: float | None = None) -> None:
    """No answers are taken from now on. Raises BadStudy unless launched."""
    when = time.time() if now is None else now
    with writing(engine) as session:
        study = get_study(session, study_id, lock=True)
        if study.state != "launched":
            raise BadStudy("only a launched study can be closed", got=study.state)
        study.state, study.closed = "closed", when
        add_event(session, "closed", who=by, study_id=study_id, at=when)


def get_study(session: Session, study_id: int, *, lock: bool = False) -> Study:
    """The study of that number. Raises NotFound."""
    study = session.get(Study, study_id, with_for_update=True if lock else None)
    if study is None:
        raise NotFound("no such study", got=study_id, next_step="`rate-heads status` lists them.")
    return study


def list_studies(engine: Engine) -> list[Study]:
    """All studies, newest first (detached)."""
    with reading(engine) as session:
        studies = list(session.scalars(select(Study).order_by(Study.id.desc())))
        session.expunge_all()
        return studies


def audit_trail(engine: Engine, study_id: int, *, limit: int = 200) -> list[Event]:
    """The newest events first (detached)."""
    with reading(engine) as session:
        query = select(Event).where(Event.study_id == study_id).order_by(Event.id.desc()).limit(limit)
        events = list(session.scalars(query))
        session.expunge_all()
        return events
