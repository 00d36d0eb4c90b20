"""Small studies for tests, and a rater who answers by a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, select

from agent.runs.database import reading
from eval.rating.heads.described import Head, described_heads
from eval.rating.people import invite, redeem
from eval.rating.ratings import Answer, save
from eval.rating.slots import Screen, confirm_instructions, next_screen
from eval.rating.studies import StudySettings, create_study, launch
from eval.rating.tables import Item

Rule = Callable[[Screen], Answer]
YES = Answer("yes", "yes")


def simple_heads(n: int, *, n_layers: int = 4) -> list[Head]:
    """Heads without a database: each with its own operation."""
    return [
        Head(
            rows=tuple({"source": f" s{i}.{r}", "targets": [f" t{i}.{r}", "x"]} for r in range(5)),
            description={"input_strings": f"Strings {i}.", "observed_pattern": f"Maps to operation {i}."},
            origin={
                "model": "tiny",
                "fingerprint": "sha256:tiny",
                "layer": i % n_layers,
                "head": i // n_layers,
                "run": 1,
                "describer": "lexical" if i % 2 else "llm",
                "category": ("algorithmic", "knowledge")[i % 2],
                "operation": f"operation {i}",
            },
        )
        for i in range(n)
    ]


def launched(engine: Engine, n: int = 6, *, k: int = 2, **settings: Any) -> int:
    """A launched study of n heads without hand-made items (unless asked for)."""
    chosen = StudySettings(**({"practice": 0, "attention": 0, "control_share": 0.0} | settings))
    study = create_study(engine, name="A study", heads=simple_heads(n), k=k, seed=5, settings=chosen)
    launch(engine, study)
    return study


def launched_from_run(engine: Engine, run_id: int, *, k: int = 2, **settings: Any) -> int:
    """A launched study of the described heads of a run."""
    study = create_study(
        engine, name="From a run", heads=described_heads(engine, run_id), k=k, settings=StudySettings(**settings)
    )
    launch(engine, study)
    return study


def rater(engine: Engine, study: int, name: str | None = None) -> int:
    """The number of a signed-in rater who has read the instructions."""
    _, token = invite(engine, study_id=study, name=name)
    who = redeem(engine, token).who
    confirm_instructions(engine, who.person_id)
    return who.person_id


def work(engine: Engine, person: int, rule: Rule = lambda _: YES, limit: int = 10_000) -> list[str]:
    """Rate until there is nothing left (or `limit`); returns the items in their order."""
    seen: list[str] = []
    while len(seen) < limit:
        screen = next_screen(engine, person)
        if screen.state != "item":
            break
        save(engine, person, screen.public_id, rule(screen))
        seen.append(screen.public_id)
    return seen


def items_of(engine: Engine, study: int) -> dict[str, Item]:
    """Items by public id (detached)."""
    with reading(engine) as session:
        items = {i.public_id: i for i in session.scalars(select(Item).where(Item.study_id == study))}
        session.expunge_all()
        return items
