"""`runs add-scores`: a table of map-relations becomes what the head browser shows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from agent.relation_readings import relation_readings
from agent.run_identity import ModelCard, RunIdentity
from agent.run_store import open_run
from agent.runs_cli import _app
from eval.web.browse_data import head_detail, model_grid, relation_values
from maps_engine.model import ModelShape
from maps_engine.relation_json import scores_to_json
from tests.believable import SETTINGS
from tests.conftest_records import *  # noqa: F403
from tests.relation_tables import made_up_scores

TABLE = made_up_scores(layers=3, heads=4, value_heads=2, n=5)
CARD = ModelCard("org/made-up", TABLE.fingerprint, ModelShape(3, 4, 2, 16, 4, 99))


def added(engine, path):
    return CliRunner().invoke(_app, ["add-scores", str(path), "--database", str(engine.url.database)])


def saved(folder, table=TABLE):
    path = folder / "scores.json"
    path.write_text(json.dumps(scores_to_json(table)))
    return path


@pytest.fixture
def labelled(sqlite_engine):
    identity = RunIdentity(TABLE.fingerprint, SETTINGS, "abc", "lexical")
    return sqlite_engine, open_run(sqlite_engine, card=CARD, identity=identity)


def test_scores_are_shown_beside_the_run(labelled, tmp_path):
    engine, run = labelled
    answer = added(engine, saved(tmp_path))
    assert (answer.exit_code, answer.output) == (0, "4 operations of made-up are stored\n")
    first = TABLE.scored[0]
    slug = CARD.slug
    assert set(model_grid(engine, slug, run.run_id).relations) == {one.name for one in TABLE.scored}
    values = relation_values(engine, run.model_id, first.name)
    assert values == {(i, h): pytest.approx(first.score[i, h].item(), abs=1e-4) for i in range(3) for h in range(4)}
    shown = head_detail(engine, slug, 2, 1, run.run_id).relations
    assert {one["source"] for one in shown} == {"embedding"}
    assert [one["relation"] for one in shown] == [
        one.name for one in sorted(TABLE.scored, key=lambda one: (-one.score[2, 1].item(), one.name))
    ]


def test_scores_read_through_something_else_take_their_place(labelled, tmp_path, caplog):
    engine, run = labelled
    added(engine, saved(tmp_path))
    other = made_up_scores(layers=3, heads=4, value_heads=2, n=5, source="first-mlp", seed=1)
    caplog.clear()
    added(engine, saved(tmp_path, other))
    ks = ", ".join(map(str, sorted({one.k for one in TABLE.scored})))
    assert caplog.messages == [
        "4 operations replaced stored scores, 4 with other settings: "
        f"source embedding, k {ks}; now source first-mlp, k {ks}"
    ]
    assert len(head_detail(engine, CARD.slug, 0, 0, run.run_id).relations) == 4
    name = other.scored[0].name
    assert relation_values(engine, run.model_id, name)[0, 0] == pytest.approx(
        other.scored[0].score[0, 0].item(), abs=1e-4
    )


def test_what_was_replaced_is_said_only_where_something_was(labelled, tmp_path, caplog):
    engine, run = labelled
    added(engine, saved(tmp_path))
    assert caplog.messages == []
    added(engine, saved(tmp_path))
    assert caplog.messages == ["4 operations replaced stored scores with the same settings"]
    with engine.begin() as connection:  # as rows are that were stored before the column was there
        connection.exec_driver_sql("UPDATE relation_scores SET source = NULL, k = 3")
    caplog.clear()
    added(engine, saved(tmp_path))
    assert "source unknown, k 3; now source embedding, k 1, 10" in caplog.messages[0]
    assert {one.source for one in relation_readings(engine, run.model_id).values()} == {"embedding"}


def test_mistakes_are_one_line(labelled, tmp_path):
    engine, _ = labelled
    stranger = added(engine, saved(tmp_path, replace(TABLE, fingerprint="1" * 64)))
    assert (stranger.exit_code, stranger.output.count("\n")) == (2, 1)
    assert "no run has the model of these scores: got made-up" in stranger.output
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for path in (broken, tmp_path / "missing.json"):
        answer = added(engine, path)
        assert (answer.exit_code, answer.output.count("\n")) == (2, 1)
        assert "Name a model" not in answer.output  # this command takes none
