"""Heads with known operations for tests of scoring: rows from word lists, held-out rows like the shown ones."""

from __future__ import annotations

import random

from agent.results.descriptions import HeadDescription
from eval.scoring.results import Subject
from maps_engine.results import EngineSettings, HeadMapping, MappingRow, ScoredToken
from tests.support.agent.mappings import NOISE

_TEXT = (
    "walk talk open close start finish paint jump cook clean look need want help ask turn move live play call work "
    "follow learn reach kill raise pass sell decide return explain hope develop carry break receive agree support hit "
    "produce eat cover catch draw choose cause point listen realise place close involve increase walked table chair "
    "window garden river mountain letter number colour music picture island bridge market school church station"
)
WORDS = list(dict.fromkeys(_TEXT.split()))


def first_letter(word):
    return word[0]


def copied(word):
    return word


def plural(word):
    return word + "s"


def upper(word):
    return word.upper()


OPERATIONS = {
    "word to first letter": first_letter,
    "copying": copied,
    "singular to plural": plural,
    "word to upper case": upper,
}


def a_row(source: str, targets: list[str], place: int) -> MappingRow:
    scored = tuple(ScoredToken(f" {t}", 1000 + place * 10 + i, 5.0 - i) for i, t in enumerate(targets))
    return MappingRow(f" {source}", place, 2.0 - place / 100, scored)


def subject(operation: str | None, layer: int, head: int, *, said: str | None = None, n: int = 50) -> Subject:
    """A head that does `operation` in every row (None: noise), described as `said` ("": unclear)."""
    chance = random.Random(f"{layer}.{head}")
    words = chance.sample(WORDS, n)
    rows = []
    for place, word in enumerate(words):
        targets = chance.sample(NOISE, 4)
        if operation is not None:
            targets[chance.randrange(2)] = OPERATIONS[operation](word)
        rows.append(a_row(word, targets, place))
    name = operation if said is None else said
    status = "ok" if name else "unclear"
    mapping = HeadMapping(
        "made", "0" * 64, layer, head, EngineSettings("embedding"), tuple(rows[:20]), (), tuple(rows[20:])
    )
    return Subject(mapping, HeadDescription(status, "made", "Words.", f"Does {name}.", name or "unclear", 0.5))


def subjects(*, per_operation: int = 3, noise: int = 2) -> list[Subject]:
    """Heads of every operation, and a few that do nothing and are unclear."""
    made = [
        subject(operation, layer, head) for layer, operation in enumerate(OPERATIONS) for head in range(per_operation)
    ]
    return made + [subject(None, 9, head, said="") for head in range(noise)]
