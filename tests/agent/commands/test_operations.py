"""`headscribe operations` as a user meets it: every way in, one-line mistakes, and one path for raters' approvals."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import agent.words.embedder
import maps_engine.relations.catalogue
from agent.commands.operations import app
from agent.errors import UnknownOperation
from agent.operations.additions import (
    MAX_NAME,
    add_operations,
    open_known_operations,
    operation_of_head,
    operation_of_pairs,
    pair_of_text,
)
from maps_engine.relations.catalogue import load_relations
from tests.support.agent.mappings import HOSTILE, LetterEmbedder
from tests.support.record_fixtures import *  # noqa: F403

RELATIONS = load_relations(("copying", "country-to-capital"))
RUN = CliRunner()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A catalogue of two, and the embedder of letters instead of MiniLM."""
    monkeypatch.setattr(agent.words.embedder, "load_embedder", LetterEmbedder)
    monkeypatch.setattr(maps_engine.relations.catalogue, "load_relations", lambda: RELATIONS)


def ok(*arguments):
    result = RUN.invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments):
    result = RUN.invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert result.output.count("\n") == 1 or "Usage" in result.output
    return result.output


def listed(*arguments):
    return json.loads(ok("list", "--json", *arguments))


def test_the_catalogue_is_listed_and_searched():
    assert [one["name"] for one in listed()] == ["copying", "country-to-capital"]
    assert set(listed("paris")[0]) == {"name", "description", "examples", "origin"}
    assert [one["name"] for one in listed("CAPITAL", "france")] == ["country-to-capital"]
    assert listed("paris", "zebra") == []
    assert listed("--added") == []
    page = ok("list", "france")
    assert "country-to-capital (catalogue)" in page
    assert "1 of 2 operations" in page


def test_added_from_the_command_line_and_removed():
    made = ("add", "fruit-to-colour", "--description", "Maps a fruit to its colour.")
    assert "with 2 examples" in ok(*made, "--example", "plum->blue", "--example", "banana->yellow")
    assert listed("--added") == [
        {
            "name": "fruit-to-colour",
            "description": "Maps a fruit to its colour.",
            "examples": [["plum", ["blue"]], ["banana", ["yellow"]]],
            "origin": "added",
        }
    ]
    ok(*made, "--example", "cherry->red")
    assert listed("--added")[0]["examples"] == [["cherry", ["red"]]]  # the same name replaces
    assert "3 operations embedded anew, 1 of them added" in ok("rebuild")
    assert json.loads(ok("rebuild", "--json")) == {"operations": 3, "added": 1}
    assert json.loads(ok("remove", "fruit-to-colour", "--json")) == {"removed": "fruit-to-colour"}
    assert listed("--added") == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("Fruit colour.csv", "source,target\nplum,blue\nbanana,yellow\n"),
        ("fruit-colour.tsv", "plum\tblue\nbanana\tyellow\n"),
        ("fruit_colour.json", '[["plum", "blue"], ["banana", ["yellow"]]]'),
    ],
)
def test_added_from_a_file(tmp_path, file, text):
    path = tmp_path / file
    path.write_text(text)
    ok("add", "--file", str(path))
    (found,) = listed("--added")
    assert (found["name"], found["examples"]) == ("fruit-colour", [["plum", ["blue"]], ["banana", ["yellow"]]])
    assert (
        ok("add", "colours", "--file", str(path), "--description", "To colours.") == "added colours with 2 examples\n"
    )


def test_added_from_a_run(believable):
    engine, _ = believable
    database = str(engine.url.database)
    row = next(r for r in _rows(engine) if r["status"] == "ok")
    where = ("--from-run", str(row["run"]), "--layer", str(row["layer"]), "--head", str(row["head"]))
    made = json.loads(ok("add", "my-own", *where, "--database", database, "--json"))
    assert (made["name"], f"run {row['run']}, layer {row['layer']}, head {row['head']}" in made["origin"]) == (
        "my-own",
        True,
    )
    assert made["description"] == f"{row['input_strings']} {row['observed_pattern']}".strip()
    assert len(made["examples"]) >= 5
    assert listed("--added")[0]["name"] == "my-own"
    unclear = next(r for r in _rows(engine) if r["status"] != "ok")
    where = ("--from-run", "1", "--layer", str(unclear["layer"]), "--head", str(unclear["head"]))
    assert "only a description that says something" in refused("add", *where, "--database", database)
    assert "no result for this head" in refused(
        "add", "--from-run", "1", "--layer", "99", "--head", "0", "--database", database
    )
    assert "no such run" in refused("add", "--from-run", "99", "--layer", "0", "--head", "0", "--database", database)


def _rows(engine):
    from agent.runs.stored import stored_lines

    return [one.to_json() for one in stored_lines(engine, 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add",), "say where the examples are"),
        (("add", "x", "--example", "a->b", "--file", "x.csv"), "say where the examples are"),
        (("add", "x", "--example", "a->b"), "needs a name and a description"),
        (("add", "--description", "x", "--example", "a->b"), "needs a name and a description"),
        (("add", "x", "--description", "x", "--example", "ab"), "ab has no ->"),
        (("add", "x", "--description", "x", "--example", "->b"), "an empty word"),
        (("add", "x\x1b[31m", "--description", "x", "--example", "a->b"), "control character"),
        (("add", "x" * 500, "--description", "x", "--example", "a->b"), "name is too long: got 500"),
        (("add", "Country to capital", "--description", "x", "--example", "a->b"), "the catalogue has an operation"),
        (("add", "--from-run", "1"), "say which head"),
        (("add", "--file", "nowhere.csv"), "cannot read nowhere.csv"),
        (("remove", "copying"), "no such added operation"),
        (("list", "--store-url", "ftp://x"), "no address of a Chroma server"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    result = RUN.invoke(app, list(arguments))
    assert result.exit_code == (1 if "ftp" in arguments[-1] else 2)
    assert message in result.output
    assert result.output.count("\n") == 1
    assert "\x1b" not in result.output


def test_hostile_descriptions_and_rows_become_plain_operations():
    rows = [(token, ["fine", *HOSTILE]) for token in ("source", *HOSTILE)]
    made = operation_of_head("\x1b[31mred\x00 " + "x" * 500, "\u202egnirts\n\n two", rows, origin="m\x07, head 1")
    with open_known_operations() as store:
        assert add_operations(store, [made]).added == (made.name,)
        assert store.list()[-1] == made
    everything = " ".join([made.name, made.description, made.origin, *(s for s, _ in made.examples)])
    assert not any(mark in everything for mark in "\x1b\x00\x07\ud800\n")
    assert len(made.name) == MAX_NAME


def test_operations_of_one_name_share_their_examples_and_the_catalogues_own_are_left_out():
    some = [
        operation_of_pairs("fruit", "d", [pair_of_text(text)]) for text in ("plum->blue", "plum->violet", "fig->red")
    ]
    with open_known_operations() as store:
        done = add_operations(store, [*some, operation_of_pairs("country to capital", "d", [("a", ("b",))])])
        assert (done.added, done.in_catalogue) == (("fruit",), ("country to capital",))
        assert store.list()[-1].examples == (("plum", ("blue", "violet")), ("fig", ("red",)))
        assert add_operations(store, []).added == ()


def test_rows_without_words_cannot_be_an_operation():
    with pytest.raises(UnknownOperation, match="needs example pairs"):
        operation_of_head("x", "y", [("\ud800", ["a"]), ("a", [""])], origin="o")


def test_help_is_instant():
    heavy = "('torch', 'chromadb', 'sqlalchemy')"
    code = f"import sys, agent.commands.operations; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
