"""The one reader of described heads: what it gives, its JSON, and heads that have no description."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlalchemy import Engine, event, select, text

from agent.errors import DatabaseUnusable, UnknownRun
from agent.runs.claims import retry_heads
from agent.runs.database import reading, writing
from agent.runs.identity import ModelCard, RunIdentity
from agent.runs.records import HeadRecord, RunRecord
from agent.runs.store import open_run, store_results
from agent.runs.stored import (
    NO_DESCRIPTION,
    StoredScore,
    head_of,
    head_of_json,
    line_of,
    stored_head,
    stored_heads,
    stored_lines,
    whole_heads,
)
from maps_engine.model import ModelShape
from tests.support.believable import SETTINGS, Believable, a_mapping, a_report
from tests.support.record_fixtures import *  # noqa: F403

LINE = (
    "model fingerprint run layer head describer test status operation category input_strings observed_pattern "
    "confidence reason reasoning"
)
WEAKER = "UPDATE tests SET verdict = 'weak', details = json_set(details, '$.verdict', 'weak') WHERE description_id % 2"
SCORE = "scorer judge settings_hash score low high n swapped"
WHOLE = (
    "model fingerprint run layer head describer test rows suppressed_rows held_out_rows same_tokens constant "
    "parts undertrained account attention operations tested_rows scores status operation category input_strings "
    "observed_pattern confidence reason reasoning claims retrieved raw_reply provenance trace"
)


def test_json_has_the_columns_of_the_database_in_a_fixed_order(believable: tuple[Engine, Believable]) -> None:
    engine, facts = believable
    stored = stored_head(engine, facts.run_id, 7, 0)
    values = stored.to_json()
    assert list(values) == WHOLE.split()
    with reading(engine) as session:
        record = session.scalars(whole_heads(facts.run_id).where(HeadRecord.layer == 7, HeadRecord.head == 0)).one()
        said = record.description
        assert said is not None
        assert said.test is not None
        for name in ("rows", "suppressed_rows", "held_out_rows"):
            assert json.dumps(values[name]) == json.dumps(getattr(record, name))
        for name in ("claims", "retrieved", "raw_reply", "provenance", "trace", "operation", "confidence"):
            assert json.dumps(values[name]) == json.dumps(getattr(said, name))
        assert json.dumps(values["test"]) == json.dumps(said.test.details)


def test_a_line_is_the_head_without_its_evidence(believable: tuple[Engine, Believable]) -> None:
    engine, facts = believable
    whole = {(one.layer, one.head): one.to_json() for one in stored_heads(engine, facts.run_id)}
    lines = list(stored_lines(engine, facts.run_id))
    assert len(lines) == len(whole) == 48
    for line in lines:
        values = line.to_json()
        assert list(values) == LINE.split()
        assert values == {name: whole[line.layer, line.head][name] for name in values}


@pytest.mark.parametrize(("offset", "limit"), [(0, 5), (46, 5), (48, 5), (0, 0), (10, None)])
def test_lines_come_by_the_page(believable: tuple[Engine, Believable], offset: int, limit: int | None) -> None:
    engine, facts = believable
    lines = list(stored_lines(engine, facts.run_id))
    end = None if limit is None else offset + limit
    assert list(stored_lines(engine, facts.run_id, offset=offset, limit=limit)) == lines[offset:end]


def test_reading_a_run_asks_no_question_a_head(believable: tuple[Engine, Believable]) -> None:
    engine, facts = believable
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert len(list(stored_heads(engine, facts.run_id))) == 48
    assert len(asked) <= 6
    asked.clear()
    assert len(list(stored_lines(engine, facts.run_id))) == 48
    assert len(asked) <= 6


def test_the_line_of_an_export_is_the_head_again(believable: tuple[Engine, Believable]) -> None:
    engine, facts = believable
    for stored in stored_heads(engine, facts.run_id):
        again = head_of_json(json.loads(json.dumps(stored.to_json())))
        assert again.mapping == stored.mapping
        assert again.claims == stored.claims
        for name in ("run", "describer", "status", "operation", "category", "observed_pattern", "confidence", "reason"):
            assert getattr(again, name) == getattr(stored, name)


@pytest.mark.parametrize("missing", ["model", "rows", "held_out_rows", "status", "provenance", "layer"])
def test_a_line_that_misses_a_part_is_no_head(believable: tuple[Engine, Believable], missing: str) -> None:
    values = stored_head(believable[0], believable[1].run_id, 7, 0).to_json()
    del values[missing]
    with pytest.raises(KeyError, match=missing):
        head_of_json(values)


def test_the_head_says_its_own_source_where_the_run_says_auto(believable: tuple[Engine, Believable]) -> None:
    engine, facts = believable
    choice = {"source": "embedding", "decided_by": "head", "evidence": [{"source": "embedding", "score": 0.5}]}
    made_with = {"settings": {"source": "embedding", "of a later version": 1}, "source_choice": choice}
    with writing(engine) as session:
        place = (HeadRecord.run_id == facts.run_id, HeadRecord.layer == 0, HeadRecord.head < 2)
        first, second = session.scalars(select(HeadRecord).where(*place).order_by(HeadRecord.head)).all()
        first.description.provenance, second.description.provenance = made_with, {"version": "0.1.0"}
        run = session.get_one(RunRecord, facts.run_id)
        run.settings = run.settings | {"engine": run.settings["engine"] | {"source": "auto", "top": 7}}
    stored, other = stored_head(engine, facts.run_id, 0, 0), stored_head(engine, facts.run_id, 0, 1)
    assert (stored.source, stored.settings) == ("embedding", replace(SETTINGS, source="embedding", top=7))
    assert stored.to_json()["provenance"] == made_with  # what is no longer asked for is still told
    assert (other.source, other.settings.source) == (None, "auto")
    again = head_of_json(json.loads(json.dumps(stored.to_json())))
    assert (again.source, again.mapping.source) == ("embedding", "embedding")
    assert again.mapping.rows == stored.mapping.rows


def test_a_head_without_a_description_keeps_its_rows(believable: tuple[Engine, Believable]) -> None:
    engine, facts = believable
    before = stored_head(engine, facts.run_id, 7, 0)
    assert retry_heads(engine, facts.run_id, layers=[7], heads=[0], statuses=["ok"]) == 1
    with pytest.raises(UnknownRun, match="no result for this head: got run 1, layer 7, head 0"):
        stored_head(engine, facts.run_id, 7, 0)
    assert len(list(stored_lines(engine, facts.run_id))) == 47
    with reading(engine) as session:
        run = session.get_one(RunRecord, facts.run_id)
        record = session.scalars(whole_heads(facts.run_id).where(HeadRecord.layer == 7, HeadRecord.head == 0)).one()
        stored, line = head_of(record, run), line_of(record, run)
    assert (stored.rows, stored.settings) == (before.rows, before.settings)
    assert (stored.described, stored.status, line.status, line.verdict) == (False, NO_DESCRIPTION, NO_DESCRIPTION, None)


def test_scores_are_read_in_the_order_they_were_stored(believable: tuple[Engine, Believable]) -> None:
    engine, facts = believable
    with writing(engine) as session:
        for number, scorer in ((9, "fuzzing"), (3, "detection")):
            values = f"{number}, 1, 'h', 'lexical', '{scorer}', 0.5, 4, 0.25, '{{\"same_operation\": true}}', {number}"
            names = "id, description_id, settings_hash, judge, scorer, score, n, swapped, details, created"
            session.execute(text(f"INSERT INTO description_scores ({names}) VALUES ({values})"))
    stored = stored_head(engine, facts.run_id, 0, 0)
    expected = StoredScore("detection", "lexical", "h", 0.5, None, None, 4, 0.25, True, 3.0)
    assert stored.scores == (expected, replace(expected, scorer="fuzzing", created=9.0))
    assert list(stored.to_json()["scores"][0]) == SCORE.split()


@pytest.mark.parametrize("read", [stored_heads, stored_lines])
def test_a_run_that_is_not_there(sqlite_engine: Engine, read: object) -> None:
    with pytest.raises(UnknownRun, match="no such run: got 5"):
        list(read(sqlite_engine, 5))  # type: ignore[operator]


@pytest.mark.parametrize("column", ["retrieved", "claims"])
def test_a_damaged_record_is_one_line(believable: tuple[Engine, Believable], column: str) -> None:
    engine, facts = believable
    with writing(engine) as session:
        first = session.scalars(select(HeadRecord).where(HeadRecord.run_id == facts.run_id)).first()
        setattr(first.description, column, [{"no such": "key"}])
        place = f"{first.layer}.{first.head}"
    with pytest.raises(DatabaseUnusable, match=f"head {place} of run {facts.run_id} is damaged: got"):
        list(stored_heads(engine, facts.run_id))


def test_a_line_names_the_operations_of_a_head_without_reading_their_rows(
    believable: tuple[Engine, Believable],
) -> None:
    engine, facts = believable
    whole = {(one.layer, one.head): one for one in stored_heads(engine, facts.run_id)}
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    lines = list(stored_lines(engine, facts.run_id))
    assert not [sql for sql in asked if "descriptions.operations " in sql or "descriptions.operations," in sql]
    for line in lines:
        assert line.operation_names == tuple(one.operation for one in whole[line.layer, line.head].operations)
    assert {len(line.operation_names) for line in lines} == {0, 2}


def test_the_recorded_operation_keeps_its_case_and_others_stand_as_search_has_them(sqlite_engine: Engine) -> None:
    mapping = a_mapping(0, 0, operation="antonym")
    report = a_report(mapping, "antonym")
    recorded, other = report.operations
    said = replace(report.description, operation="English  to\nFrench")
    both = (replace(other, operation="Names\nof Rivers"), replace(recorded, operation=said.operation))
    run = open_run(
        sqlite_engine,
        card=ModelCard("m", mapping.fingerprint, ModelShape(1, 1, 1, 8, 8, 100)),
        identity=RunIdentity(mapping.fingerprint, SETTINGS, "p" * 12, "lexical"),
    ).run_id
    store_results(sqlite_engine, run, [(replace(report, description=said, operations=both), None)])
    (line,) = stored_lines(sqlite_engine, run)
    assert line.operation_names == ("names of rivers", "English  to\nFrench")
    (whole,) = stored_heads(sqlite_engine, run)
    assert [one.also for one in whole.operations] == [other.also, ()]
    values = whole.to_json()
    assert head_of_json(values).operations == whole.operations
    for one in values["operations"]:
        del one["also"], one["joined"], one["describer"]  # as earlier versions stored them
    assert [one.also for one in head_of_json(values).operations] == [(), ()]


def test_heads_stored_before_operations_were_known_have_the_recorded_one_where_its_test_supports_it(
    believable: tuple[Engine, Believable],
) -> None:
    engine, facts = believable
    with writing(engine) as session:
        session.execute(text("UPDATE descriptions SET operations = NULL, operation_names = ''"))
        session.execute(text(WEAKER))
    lines = list(stored_lines(engine, facts.run_id))
    for line in lines:
        assert line.operation_names == ((line.operation,) if line.test and line.test.verdict == "supported" else ())
    assert {len(line.operation_names) for line in lines if line.status == "ok"} == {0, 1}
