"""`headscribe composition` as a user runs it, on a tiny model, and with all that can go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eval.commands.headscribe import app
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.qk.composition import read_composition
from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("tiny"), num_hidden_layers=3)[0]


def run(*arguments: object):
    return CliRunner().invoke(app, ["composition", *map(str, arguments)], env={"COLUMNS": "160", "TERM": "dumb"})


def test_the_strongest_edges_of_a_model(model):
    done = run("--model", model, "--top", 2)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""  # no bar where standard error is no terminal
    first = read_composition(open_checkpoint(str(model), device="cpu")).strongest(1)[0]
    row = "{}.{} ".format(*first.reader), "{}.{} ".format(*first.source), f"{first.strength:.2f}"
    assert any(all(cell in line for cell in row) for line in done.stdout.splitlines())
    titles = [line.strip() for line in done.stdout.splitlines() if line.strip().endswith(("(K)", "(Q)", "(V)"))]
    assert titles == ["keys (K)", "queries (Q)", "values (V)"]
    assert sum(line[:1].isdigit() for line in done.stdout.splitlines()) == 3 * 2


def test_json_of_one_head_and_of_one_layer(model):
    whole = json.loads(run("--model", model, "--layer", 2, "--head", 1, "--top", 3, "--json").stdout)
    assert (whole["model"], whole["layers"], whole["heads"]) == (str(model), 3, 4)
    assert [one["kind"] for one in whole["edges"]] == ["K"] * 3 + ["Q"] * 3 + ["V"] * 3
    assert {(one["layer"], one["head"]) for one in whole["edges"]} == {(2, 1)}
    edge = read_composition(open_checkpoint(str(model), device="cpu")).of_head(2, 1)[0]
    first = whole["edges"][0]
    assert ((first["from_layer"], first["from_head"]), first["strength"]) == (edge.source, pytest.approx(edge.strength))
    layer = json.loads(run("--model", model, "--layer", 1, "--json").stdout)
    assert {one["layer"] for one in layer["edges"]} == {1}


def test_nothing_feeds_the_first_layer(model):
    done = run("--model", model, "--layer", 0)
    assert done.exit_code == 0
    assert "No earlier head feeds these heads." in done.stdout


@pytest.mark.parametrize("form", ["png", "svg"])
def test_a_figure_is_written(model, tmp_path, form):
    file = tmp_path / f"edges.{form}"
    done = run("--model", model, "--figure", file)
    assert f"wrote {file}" in done.stdout
    assert file.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "3"], "has no layer 3; expected 0 to 2"),
        (["--layer", "1", "--head", "-1"], "has no head -1; expected 0 to 3"),
        (["--head", "1"], "--head says which head of a layer: got --head 1; expected --layer beside it"),
        (
            ["--figure", "edges.gif"],
            "unknown format of a figure: got edges.gif; expected a name that ends with .png or",
        ),
        (["--figure", "no-such-folder/edges.png"], "the file cannot be written"),
    ],
)
def test_mistakes_are_one_line(model, options, message):
    done = run("--model", model, *options)
    assert done.exit_code in (1, 2)
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_a_model_that_cannot_be_read_is_said(tmp_path):
    done = run("--model", tiny_model("opt-350m", tmp_path / "tiny")[0])
    assert done.exit_code == 2
    assert "norms stand in the residual stream" in done.stderr
