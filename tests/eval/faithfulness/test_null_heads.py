"""Rates on null heads: the counts of the pipeline, the command, the report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from agent.checks.new_pairs import HIGH_OF_CLASSES
from agent.results.descriptions import HeadDescription
from agent.results.outcomes import PairTest, TestResult
from agent.results.reports import Attempt, HeadReport, Trace, Trial
from eval.commands.check import app
from eval.faithfulness.null_heads import SETS, TRIED, _curve, null_heads
from eval.faithfulness.report.reading import read_null_heads
from eval.faithfulness.report.text import table_text
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings
from tests.support.agent.mappings import mapping, planted
from tests.support.believable import made_provenance
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


def report_of(*claims: tuple[str, float, str], held_out: str = "Paris") -> HeadReport:
    """A head of which claims were tested: operation, percentile and verdict; one alone leaves no attempts."""
    trials = [
        (HeadDescription("ok", "lexical", operation=operation), PairTest(32, 10, 0.6, high, 0.1, 0.6, 9, 0.1), verdict)
        for operation, high, verdict in claims
    ]
    whole, (said, pairs, verdict) = mapping(planted([("France", "Paris")] * 6)), trials[0]
    whole = replace(whole, held_out_rows=planted([("France", held_out)] * 6))
    attempts = tuple(Attempt(one, Trial(v, pairs=p), "proposed") for one, p, v in trials) if len(trials) > 1 else ()
    test = TestResult(verdict, said.operation, pairs=pairs)
    return HeadReport(whole, (), said, test, made_provenance(whole), Trace(attempts))


def test_the_curve_counts_heads_by_the_percentile_asked_of_claims_of_classes():
    reports = [
        report_of(("countries to capital cities", 96.5, "weak")),
        report_of(("country to capital", 95.5, "supported"), ("words to single letters", 99.2, "supported")),
        report_of(("countries to capital cities", 99.9, "weak"), held_out="the"),  # the rows fall apart
        report_of(("country to capital", 99.9, "weak")),
        report_of(("words to single letters", 98.0, "supported"), ("countries to capital cities", 91.0, "weak")),
    ]
    found = {one["percentile"]: one["supported"] for one in _curve(reports, load_relations())}
    assert found == {90.0: 3, 95.0: 3, 96.0: 3, 97.0: 2, 98.0: 2, 99.0: 1, 99.5: 1}
    assert tuple(found) == TRIED
    rates = [{"set": "real", "half": "lower", "percentile": high, "supported": n} for high, n in found.items()]
    lines = table_text("null-heads", {**RESULT, "curve": rates}).splitlines()
    assert "percentile among the other heads that is asked of claims of classes" in lines[7]
    assert lines[9] == "| percentile | real, lower half |"
    assert "| 97 (asked) | 2 |" in lines
    assert lines[-1] == "| 99.5 | 1 |"


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
    rule = [one for one in found["curve"] if one["percentile"] == HIGH_OF_CLASSES]
    at_rule = {(one["set"], one["half"]): one["supported"] for one in rule}
    assert all(at_rule[one["set"], one["half"]] == one["supported"] for one in found["rates"])
    assert told[-1] == ("null heads", shape.n_layers * shape.n_heads, shape.n_layers * shape.n_heads)
    options = ["null-heads", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    result = CliRunner().invoke(app, [*options, "--seed", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["seed"] == 1
    assert CliRunner().invoke(app, ["report", *options[1:]]).exit_code == 0
    assert "Names of heads that do nothing" in (tmp_path / "out" / "report.md").read_text()
