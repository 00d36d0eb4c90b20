"""Rates on null heads: the counts of the pipeline, the command, the report."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from eval.commands.check import app
from eval.faithfulness.null_heads import SETS, null_heads
from eval.faithfulness.report.reading import read_null_heads
from eval.faithfulness.report.text import table_text
from maps_engine.results import EngineSettings
from tests.support.eval.faithfulness_models import tiny_bench


def rate(name: str, half: str, named: int, supported: int) -> dict:
    rates = {"set": name, "half": half, "heads": 10, "named": named, "supported": supported, "weak": 0}
    return rates | {"operations": 2 * named, "parts": 80, "parts_named": named}


RESULT = {
    "describer": "lexical",
    "seed": 0,
    "rates": [rate("real", "lower", 2, 1), rate("real", "upper", 7, 7), rate("null", "lower", 0, 0),
              rate("null", "upper", 1, 0)],
    "operations": {},
}  # fmt: skip


def test_rates_are_shown_beside_each_other():
    table = table_text("null-heads", RESULT).splitlines()
    assert table[2] == "| real, lower half | 10 | 2 (20.0%) | 1 (10.0%) | 0 (0.0%) | 4 | 2 of 80 (2.5%) |"
    assert table[5] == "| null, upper half | 10 | 1 (10.0%) | 0 (0.0%) | 0 (0.0%) | 2 | 1 of 80 (1.2%) |"
    real, null = read_null_heads(RESULT)
    assert "names 9 of 20 (45.0%), and the test supports 8" in real
    assert "null heads the lexical describer names 1 of 20 (5.0%), and the test supports 0" in null


@pytest.mark.model
def test_the_pipeline_runs_over_real_and_null_heads_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSCRIBE_DATA", str(tmp_path / "data"))
    bench = tiny_bench(tmp_path)
    told: list[tuple[str, int, int]] = []
    bench.progress = lambda *one: told.append(one)
    shape = bench.checkpoint.weights.shape
    found = null_heads(bench, settings=EngineSettings(top=10))
    assert [(one["set"], one["half"]) for one in found["rates"]] == [(s, h) for s in SETS for h in ("lower", "upper")]
    assert sum(one["heads"] for one in found["rates"]) == 2 * shape.n_layers * shape.n_heads
    assert all(one["supported"] + one["weak"] <= one["named"] <= one["heads"] for one in found["rates"])
    assert told[-1] == ("null heads", shape.n_layers * shape.n_heads, shape.n_layers * shape.n_heads)
    options = ["null-heads", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    result = CliRunner().invoke(app, [*options, "--seed", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["seed"] == 1
    assert CliRunner().invoke(app, ["report", *options[1:]]).exit_code == 0
    assert "Names of heads that do nothing" in (tmp_path / "out" / "report.md").read_text()
