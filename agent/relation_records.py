"""Relation scores that `map-relations --save` wrote, put beside the runs, where the head browser shows them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, select

from agent.database import reading
from agent.errors import UnknownRun
from agent.records import ModelRecord
from agent.relation_readings import RelationReading, relation_readings, replaced_text
from agent.run_store import RelationScore, store_relation_scores
from maps_engine.relation_json import read_scores
from maps_engine.relation_scores import ModelScores
from maps_engine.results import EngineSettings

_log = logging.getLogger(__name__)


def add_saved_scores(engine: Engine, path: Path) -> tuple[str, int]:
    """The name of the model and how many of its operations were stored from the table in `path`.

    A warning is logged where they replaced stored scores, since those may have been read otherwise.
    Raises UserMistake for a file that is no such table, UnknownRun where no run has this checkpoint.
    """
    table = read_scores(path)
    with reading(engine) as session:
        model_id = session.scalar(select(ModelRecord.id).where(ModelRecord.fingerprint == table.fingerprint))
    if model_id is None:
        raise UnknownRun(
            "no run has the model of these scores",
            got=table.model,
            next_step="Label heads of it first: the browser shows scores beside a run.",
        )
    before = relation_readings(engine, model_id)
    store_relation_scores(engine, model_id, _rows(table), settings=EngineSettings(source=table.source))
    stored = {one.name: RelationReading(table.source, one.k, one.n_used) for one in table.scored}
    if replaced := replaced_text(before, stored):
        _log.warning("%s", replaced)  # on standard error, whoever called
    return table.model, len(table.scored)


def _rows(table: ModelScores) -> Iterator[RelationScore]:
    for one in table.scored:
        assert one.score is not None
        assert one.suppression is not None
        sides = zip(one.score.tolist(), one.suppression.tolist(), strict=True)
        for layer, (promoted, suppressed) in enumerate(sides):
            for head, (score, suppression) in enumerate(zip(promoted, suppressed, strict=True)):
                yield RelationScore(one.name, one.category, layer, head, score, suppression, one.k, one.n_used)
