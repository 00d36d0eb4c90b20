"""`headscribe runs add-scores`: a table of map-relations becomes what the head browser shows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from agent.commands.runs import app
from agent.runs.identity import ModelCard, RunIdentity
from agent.runs.relation_scores import relation_readings
from agent.runs.store import open_run
from eval.web.browser.browse_data import model_grid, relation_values
from eval.web.browser.head_data import head_detail
from maps_engine.model import ModelShape
from maps_engine.scores.table_json import scores_to_json
from tests.support.believable import SETTINGS
from tests.support.record_fixtures import *  # noqa: F403
from tests.support.relation_tables import made_up_scores

TABLE = made_up_scores(layers=3, heads=4, value_heads=2, n=5)
CARD = ModelCard("org/made-up", TABLE.fingerprint, ModelShape(3, 4, 2, 16, 4, 99))


def added(engine, path, *more):
    return CliRunner().invoke(app, ["add-scores", str(path), "--database", str(engine.url.database), *more])


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
    again = json.loads(added(engine, saved(tmp_path), "--json").stdout)
    assert (again["model"], again["n_operations"]) == ("made-up", 4)
    first = TABLE.scored[0]
    slug = CARD.slug
    assert set(model_grid(engine, slug, run.run_id).relations) == {one.name for one in TABLE.scored}
    values = relation_values(engine, run.model_id, first.name)
    assert values == {(i, h): pytest.approx(first.score[i, h].item(), abs=1e-4) for i in range(3) for h in range(4)}
    shown = head_detail(engine, slug, 2, 1, run.run_id).relations
    assert {one.source for one in shown} == {"embedding"}
    assert [one.relation for one in shown] == [
        one.name for one in sorted(TABLE.scored, key=lambda one: (-one.score[2, 1].item(), one.name))
    ]


def test_scores_read_through_something_else_take_their_place(labelled, tmp_path):
    engine, run = labelled
    added(engine, saved(tmp_path))
    other = made_up_scores(layers=3, heads=4, value_heads=2, n=5, source="first-mlp", seed=1)
    answer = added(engine, saved(tmp_path, other))
    ks = ", ".join(map(str, sorted({one.k for one in TABLE.scored})))
    assert answer.output.splitlines()[1:] == [
        "4 operations replaced stored scores, 4 with other settings: "
        f"source embedding, k {ks}; now source first-mlp, k {ks}"
    ]
    assert len(head_detail(engine, CARD.slug, 0, 0, run.run_id).relations) == 4
    name = other.scored[0].name
    assert relation_values(engine, run.model_id, name)[0, 0] == pytest.approx(
        other.scored[0].score[0, 0].item(), abs=1e-4
    )


def test_what_was_replaced_is_said_only_where_something_was(labelled, tmp_path):
    engine, run = labelled
    assert len(added(engine, saved(tmp_path)).output.splitlines()) == 1
    again = added(engine, saved(tmp_path)).output.splitlines()
    assert again[1:] == ["4 operations replaced stored scores with the same settings"]
    with engine.begin() as connection:  # as rows are that were stored before the column was there
        connection.exec_driver_sql("UPDATE relation_scores SET source = NULL, k = 3")
    answer = added(engine, saved(tmp_path))
    assert "source unknown, k 3; now source embedding, k 1, 10" in answer.output
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


def _of_all(name, value):
    def edit(whole):
        for one in whole["relations"]:
            one[name] = value

    return edit


def _of_first(name, value):
    return lambda whole: whole["relations"][0].__setitem__(name, value)


def _first_cell(table, value):
    return lambda whole: whole["relations"][0][table][0].__setitem__(0, value)


def _of_file(**values):
    return lambda whole: whole.update(values)


def _twice(whole):
    whole["relations"].append(whole["relations"][0])


def _other_shape(whole):
    whole.update(layers=50, heads=2)
    for one in whole["relations"]:
        one.update({name: [[0.5] * 2] * 50 for name in ("scores", "suppression")})
        one.update(null=None, p=None, suppression_null=None, suppression_p=None)


def _transposed(whole):
    for one in whole["relations"]:
        one["scores"] = one["scores"] and [list(column) for column in zip(*one["scores"], strict=True)]


@pytest.mark.parametrize(
    ("edit", "needle"),
    [
        (_first_cell("scores", float("nan")), "not every score of"),
        (_first_cell("scores", float("inf")), "not every score of"),
        (_first_cell("scores", 1.5), "to 1.5; expected a number from 0 to 1"),
        (_first_cell("suppression", -0.25), "not every suppression of"),
        (_first_cell("scores", 10**400), "a number is too large"),
        (_twice, "more than once"),
        (_transposed, "a table of (4, 3), not (3, 4)"),
        (_of_first("suppression", None), "not every suppression of"),
        (_of_first("k", 1e30), f"got {int(1e30)}; expected 1 to 99, the vocabulary"),
        (_of_first("k", float("inf")), "a number is too large"),
        (_of_first("k", 10**400), "got 1000"),
        (_of_first("k", 0), "got 0; expected 1 to 99"),
        (_of_first("used", 1e30), "number of pairs used"),
        (_of_all("name", "half \ud83d"), "more than once"),
        (_of_first("name", "half \ud83d"), "the name of an operation cannot be stored: got half <U+D83D>"),
        (_of_first("name", "x" * 101), "1 to 100 characters"),
        (_of_first("name", "a\x00b"), "no NUL"),
        (_of_first("category", "half \ud83d"), "the category cannot be stored"),
        (_of_file(fingerprint="half \ud83d"), "no run has the model of these scores"),
        (_of_file(model="half \ud83d", fingerprint="1" * 64), "got half <U+D83D>"),
        (_of_file(value_heads=4), "got 3, 4, 4; expected 3, 4, 2"),
        (_other_shape, "got 50, 2, 2; expected 3, 4, 2"),
        (_of_file(source="bogus"), "unknown source representation: got bogus"),
    ],
)
def test_an_edited_table_is_refused_before_anything_is_stored(labelled, tmp_path, edit, needle):
    engine, run = labelled
    whole = scores_to_json(TABLE)
    edit(whole)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(whole))
    answer = added(engine, path)
    assert (answer.exit_code, answer.output.count("\n")) == (2, 1), answer.output
    assert needle in answer.output
    assert model_grid(engine, CARD.slug, run.run_id).relations == {}


@pytest.mark.parametrize("source", ["auto", "first-block"])
def test_scores_saved_when_more_representations_could_be_asked_for_are_stored(labelled, tmp_path, source):
    engine, run = labelled
    whole = scores_to_json(TABLE)
    del whole["lead_in"]
    whole |= {"source": source, "sources": ["embedding"], "by_source": {"embedding": whole["relations"]}}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(whole))
    assert added(engine, path).exit_code == 0
    shown = head_detail(engine, CARD.slug, 2, 1, run.run_id).relations
    assert {one.source for one in shown} == {source}
    assert [one.relation for one in shown] == [
        one.name for one in sorted(TABLE.scored, key=lambda one: (-one.score[2, 1].item(), one.name))
    ]


def test_scores_behind_a_lead_in_are_stored_with_it(labelled, tmp_path):
    engine, run = labelled
    behind = replace(made_up_scores(layers=3, heads=4, value_heads=2, n=5, source="residual"), lead_in=(" the",))
    assert added(engine, saved(tmp_path, behind)).exit_code == 0
    assert {one.source for one in relation_readings(engine, run.model_id).values()} == {"residual"}
