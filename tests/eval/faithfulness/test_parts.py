"""One part taken out of a head: what is taken out, what is asked, the command and the report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from agent.results import HeadOperation, PairTest, TestedRow, TestResult
from agent.runs.database import open_database
from eval.commands.check import app
from eval.faithfulness.final_logits.asked import neutral_prompts
from eval.faithfulness.parts.experiment import DRAWS, MIN_WORDS, _random, _without, parts_removed
from eval.faithfulness.report.reading import read_parts
from eval.faithfulness.report.text import table_text
from maps_engine.engine import MapsEngine
from maps_engine.parts import grouping, head_parts
from maps_engine.results import EngineSettings, MappingRow, ScoredToken
from tests.support.eval.named_runs import named, stored_run, word_ids, wordy_bench

HEAD = (1, 0)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A tiny model of which a few words make a part."""
    monkeypatch.setenv("HEADSCRIBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(head_parts, "ordinary_words", lambda *_: ())
    for name, value in {"FEWEST": 3, "NEAR": 0.2, "MEMBER": 0.3}.items():
        monkeypatch.setattr(grouping, name, value)
    return wordy_bench(tmp_path)


@pytest.fixture
def axes(bench):
    return MapsEngine(bench.checkpoint, EngineSettings("embedding")).part_axes(*HEAD, n=2)


def values(axes, n: int = 7) -> torch.Tensor:
    return axes.mean + torch.randn(n, len(axes.mean), generator=torch.Generator().manual_seed(1))


def test_rows_and_values_are_each_other_s_inverse(axes):
    some = values(axes)
    assert torch.allclose(axes.values(axes.rows(some)), some, atol=1e-3)


def test_the_first_direction_of_a_part_is_that_of_its_words(bench, axes):
    maps = MapsEngine(bench.checkpoint, EngineSettings("embedding"))
    (mapping,) = maps.with_parts([maps.map_head(*HEAD)])
    assert len(axes.directions) == len(mapping.parts) >= 2
    circuit = maps.at("embedding").circuit(HEAD[0])
    for part, along in zip(mapping.parts, axes.directions, strict=True):
        ids = torch.tensor([row.token_id for row in part.rows])
        rows = axes.rows(circuit.values(ids)[0][:, HEAD[1] // circuit.heads.group])
        cosines = torch.nn.functional.normalize(rows, dim=-1) @ along[0]
        assert cosines.abs().min() > 0.2
        assert torch.allclose(along @ along.T, torch.eye(2), atol=1e-4)


def test_only_the_part_s_directions_are_taken_out(axes):
    some = values(axes)
    rows, left = axes.rows(some), axes.rows(_without(axes, some, 0))
    along = axes.directions[0]
    assert (left @ along.T).abs().max() < 1e-3
    assert torch.allclose(left - left @ along.T @ along, rows - rows @ along.T @ along, atol=1e-3)


def test_random_directions_take_out_as_much(axes):
    some = values(axes)
    rows = axes.rows(some)
    for seed in range(DRAWS):
        taken = rows - axes.rows(_random(axes, some, 0, seed))
        assert torch.allclose(taken.norm(dim=-1), (rows @ axes.directions[0].T).norm(dim=-1), atol=1e-3)


def operation(checkpoint, label: str, words: list[int], targets: list[int], part: int) -> HeadOperation:
    text = checkpoint.vocabulary.text
    rows = [
        TestedRow(MappingRow(text(w), w, 1.0, (ScoredToken("no", 1, 9.0), ScoredToken(text(t), t, 1.0))), "", True)
        for w, t in zip(words, targets, strict=True)
    ]
    pairs = PairTest(20, 10, 0.9, 99.0, 0.0, 0.1, 7, 0.1)
    return HeadOperation(label, "", "form", TestResult("supported", label, pairs=pairs, tested_rows=tuple(rows)), part)


def a_run(bench, tmp_path, *, n: int = MIN_WORDS, parts: tuple[int, int] = (0, 1)):
    """A stored run whose head copies some words and writes one word for others."""
    engine = open_database(str(tmp_path / "runs.sqlite"))
    ids, text = word_ids(bench.checkpoint), bench.checkpoint.vocabulary.text
    written = ids[40]
    found = (
        operation(bench.checkpoint, "copying", ids[:n], ids[:n], parts[0]),
        operation(bench.checkpoint, f'words to "{text(written).strip()}"', ids[10 : 10 + n], [written] * n, parts[1]),
    )
    report = replace(named(bench.checkpoint, *HEAD, "copying"), operations=found)
    return engine, stored_run(engine, bench.checkpoint, [report])


def test_whole_heads_and_heads_without_a_part_are_put_into_the_model(bench, tmp_path):
    engine, run = a_run(bench, tmp_path)
    found = parts_removed(bench, engine, run, directions=2)
    first, second = found["operations"]
    assert (first["operation"], first["part"], first["other_part"]) == ("copying", 0, 1)
    assert (second["part"], second["other_part"], second["words"]) == (1, 0, MIN_WORDS)
    # the whole head, written out for the first word of the first operation
    model, weights = bench.model, bench.checkpoint.weights
    start, words = bench.checkpoint.vocabulary.start, word_ids(bench.checkpoint)[:MIN_WORDS]
    total = []
    for prompt in neutral_prompts(bench.maker):
        clean = model.logits_after(torch.tensor(prompt), HEAD[0], torch.zeros(1, weights.shape.d_model))[0]
        for word in words:
            v = model.head_states(torch.tensor([[*start, word]]), len(start)).values[HEAD[0], 0]
            y = v[weights.shape.value_head_of(HEAD[1])] @ weights.attention(HEAD[0]).output[HEAD[1]]
            moved = model.logits_after(torch.tensor(prompt), HEAD[0], y[None])[0] - clean
            total.append(float((moved[word] - moved.mean()) / moved.std(correction=0)))
    assert first["whole"]["z"] == pytest.approx(sum(total) / len(total), rel=1e-2, abs=1e-2)
    lost = [one["whole"]["z"] - one["own"]["z"] for one in found["operations"]]
    assert found["lost"]["own"]["value"] == pytest.approx(sum(lost) / 2)
    assert found["lost"]["own"]["low"] <= found["lost"]["own"]["value"] <= found["lost"]["own"]["high"]


@pytest.mark.parametrize("changes", [{"n": MIN_WORDS - 1}, {"parts": (0, 0)}])
def test_heads_without_two_operations_of_different_parts_are_left_out(bench, tmp_path, changes):
    engine, run = a_run(bench, tmp_path, **changes)
    found = parts_removed(bench, engine, run)
    assert (found["operations"], found["lost"]) == ([], {})
    assert "No head of run" in read_parts(found)[0]


def test_the_command_and_the_report(bench, tmp_path):
    a_run(bench, tmp_path)
    common = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    asked = ["parts", *common, "--database", str(tmp_path / "runs.sqlite"), "--json"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    whole = json.loads(result.stdout)
    assert whole["operations"][0]["operation"] == "copying"
    assert "| 1.0 | copying | 1 | 5 |" in table_text("parts", whole)
    assert "In 1 head of run 1" in read_parts(whole)[0]
    assert CliRunner().invoke(app, ["report", *common]).exit_code == 0
    assert "One part taken out of a head" in (tmp_path / "out" / "report.md").read_text()
