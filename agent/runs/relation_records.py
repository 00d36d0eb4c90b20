"""Relation scores that `map-relations --save` wrote, put beside the runs, where the head browser shows them.

A file may have been edited: all of it is checked against the stored model before any of it is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, select
from torch import Tensor

from agent.errors import UnknownRun
from agent.runs.database import reading
from agent.runs.records import ModelRecord, storable
from agent.runs.relation_scores import (
    RelationReading,
    RelationScore,
    relation_readings,
    replaced_text,
    store_relation_scores,
)
from maps_engine.errors import UserMistake
from maps_engine.ov.sources import check_source_name
from maps_engine.results import EngineSettings
from maps_engine.scores.table import ModelScores, RelationScores
from maps_engine.scores.table_json import read_scores

LONGEST_NAME = 100  # what the columns of RelationScoreRecord hold
LARGEST_COUNT = 2**31 - 1  # what an integer column of PostgreSQL holds
FORMER_SOURCES = ("auto", "first-block")  # of files saved when these could be asked for
SHOWN = 60  # characters of a name in an error


@dataclass(frozen=True)
class Added:
    """What storing a file did: the model's name, its operations, and which stored scores they replaced ("": none)."""

    model: str
    n_operations: int
    replaced: str


def add_saved_scores(engine: Engine, path: Path) -> Added:
    """Store the table in `path`. Raises UserMistake where it is none, UnknownRun where no run has this checkpoint."""
    table = _read(path)
    model = _stored_model(engine, table)
    _check_table(table, model)
    before = relation_readings(engine, model.id)
    store_relation_scores(
        engine, model.id, _rows(table), settings=EngineSettings(source=table.source, lead_in=table.lead_in)
    )
    stored = {one.name: RelationReading(table.source, one.k, one.n_used) for one in table.scored}
    return Added(table.model, len(table.scored), replaced_text(before, stored))


def _read(path: Path) -> ModelScores:
    try:
        return read_scores(path)
    except OverflowError as error:  # JSON has numbers of any size: 1e999, or hundreds of digits
        raise _damaged("a number is too large", error) from error


def _stored_model(engine: Engine, table: ModelScores) -> ModelRecord:
    fingerprint = storable(table.fingerprint)  # what no text column holds, no query can ask for
    with reading(engine) as session:
        model = session.scalar(select(ModelRecord).where(ModelRecord.fingerprint == fingerprint))
    if model is None:
        raise UnknownRun(
            "no run has the model of these scores",
            got=table.model,
            next_step="Label heads of it first: the browser shows scores beside a run.",
        )
    return model


def _check_table(table: ModelScores, model: ModelRecord) -> None:
    shape = (table.n_layers, table.n_heads, table.n_value_heads)
    stored = (model.n_layers, model.n_heads, model.n_value_heads)
    if shape != stored:
        raise _damaged(
            "layers, heads and value heads are not the model's", _words(shape)[:SHOWN], expected=_words(stored)
        )
    if table.source not in FORMER_SOURCES:
        check_source_name(table.source)
    name, n = Counter(one.name for one in table.scored).most_common(1)[0] if table.scored else ("", 0)
    if n > 1:
        raise _damaged("an operation stands in the table more than once", name[:SHOWN], expected="each once")
    for one in table.scored:
        _check_relation(one, model.vocab_size)


def _words(shape: tuple[int, int, int]) -> str:
    return ", ".join(map(str, shape))


def _check_relation(one: RelationScores, vocab_size: int) -> None:
    _check_text("name of an operation", one.name)
    _check_text("category", one.category)
    whose = one.name[:SHOWN]
    if not 1 <= one.k <= vocab_size:
        raise _damaged(f"k of {whose} cannot be", str(one.k)[:SHOWN], expected=f"1 to {vocab_size}, the vocabulary")
    if not 1 <= one.n_used <= LARGEST_COUNT:
        raise _damaged(f"the number of pairs used by {whose} cannot be", str(one.n_used)[:SHOWN], expected="1 or more")
    for what, values in (("score", one.score), ("suppression", one.suppression)):
        if values is None or not _are_shares(values):
            got = "none" if values is None else f"{values.min():.6g} to {values.max():.6g}"
            raise _damaged(
                f"not every {what} of {whose} is a share", got, expected="a number from 0 to 1 for each head"
            )


def _are_shares(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())  # NaN is neither


def _check_text(what: str, text: str) -> None:
    if not text or len(text) > LONGEST_NAME or storable(text) != text:
        expected = f"1 to {LONGEST_NAME} characters, no NUL, no half of a surrogate pair"
        raise _damaged(f"the {what} cannot be stored", text[:SHOWN] or "nothing", expected=expected)


def _damaged(what: str, got: object, *, expected: str = "a table as it was saved") -> UserMistake:
    return UserMistake(what, got=got, expected=expected, next_step="Save the table again: map-relations --save FILE.")


def _rows(table: ModelScores) -> Iterator[RelationScore]:
    for one in table.scored:
        assert one.score is not None
        assert one.suppression is not None
        sides = zip(one.score.tolist(), one.suppression.tolist(), strict=True)
        for layer, (promoted, suppressed) in enumerate(sides):
            for head, (score, suppression) in enumerate(zip(promoted, suppressed, strict=True)):
                yield RelationScore(one.name, one.category, layer, head, score, suppression, one.k, one.n_used)
