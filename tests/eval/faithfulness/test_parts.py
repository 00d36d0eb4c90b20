"""One part taken out of a head: what is taken out, what is asked, the command and the report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from agent.results.outcomes import HeadOperation, PairTest, TestedRow, TestResult
from agent.runs.database import open_database
from eval.commands.check import app
from eval.faithfulness.final_logits.asked import neutral_prompts
from eval.faithfulness.parts.experiment import DRAWS, MIN_WORDS, _noised, _random, _without, parts_removed
from eval.faithfulness.report.reading import read_parts
from eval.faithfulness.report.text import table_text
from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
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
    along = axes.directions[0]
    rows, left = axes.rows(some), axes.rows(_without(axes, some, along))
    assert (left @ along.T).abs().max() < 1e-3
    assert torch.allclose(left - left @ along.T @ along, rows - rows @ along.T @ along, atol=1e-3)


def test_noise_is_as_long_as_what_is_taken_out(axes):
    some, along = values(axes), axes.directions[0]
    rows = axes.rows(some)
    for seed in range(DRAWS):
        chance = _random(axes, seed)
        assert torch.allclose(chance @ chance.T, torch.eye(2), atol=1e-4)
        put_in = rows - axes.rows(_noised(axes, some, along, chance))
        assert torch.allclose(put_in.norm(dim=-1), (rows @ along.T).norm(dim=-1), atol=1e-3)


@pytest.mark.parametrize("n", [0, 17, 1000])
def test_a_part_has_not_so_many_directions(bench, n):
    maps = MapsEngine(bench.checkpoint, EngineSettings("embedding"))
    with pytest.raises(UserMistake, match="a part has not so many directions"):
        maps.part_axes(*HEAD, n=n)


def operation(checkpoint, label: str, words: list[int], targets: list[int], part: int) -> HeadOperation:
    text = checkpoint.vocabulary.text
    rows = [
        TestedRow(MappingRow(text(w), w, 1.0, (ScoredToken("no", 1, 9.0), ScoredToken(text(t), t, 1.0))), "", True)
        for w, t in zip(words, targets, strict=True)
    ]
    pairs = PairTest(20, 10, 0.9, 99.0, 0.0, 0.1, 7, 0.1)
    return HeadOperation(label, "", "form", TestResult("supported", label, pairs=pairs, tested_rows=tuple(rows)), part)


SETTINGS = EngineSettings("residual", words=60)


def a_run(bench, tmp_path, *, n: int = MIN_WORDS, parts: tuple[int, int] = (0, 1), settings=SETTINGS):
    """A stored run whose head copies some words and writes one word for others."""
    engine = open_database(str(tmp_path / "runs.sqlite"))
    ids, text = word_ids(bench.checkpoint), bench.checkpoint.vocabulary.text
    written = ids[40]
    label = f'plural nouns to "{text(written).strip()}"'
    found = (
        operation(bench.checkpoint, "copying", ids[:n], ids[:n], parts[0]),
        operation(bench.checkpoint, label, ids[10 : 10 + n], [written] * n, parts[1]),
    )
    maps = MapsEngine(bench.checkpoint, settings)
    (mapping,) = maps.with_parts([maps.map_head(*HEAD)])
    one = named(bench.checkpoint, *HEAD, "copying")
    report = replace(one, mapping=mapping, provenance=replace(one.provenance, settings=settings), operations=found)
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
    mean = found["lost"]["own"]  # of one head: one observation
    assert mean["value"] == mean["low"] == mean["high"] == pytest.approx(sum(lost) / 2)
    assert found["changed"] == 0


@pytest.mark.parametrize("changes", [{"n": MIN_WORDS - 1}, {"parts": (0, 0)}])
def test_heads_without_two_operations_of_different_parts_are_left_out(bench, tmp_path, changes):
    engine, run = a_run(bench, tmp_path, **changes)
    found = parts_removed(bench, engine, run)
    assert (found["operations"], found["lost"]) == ([], {})
    assert "No head of run" in read_parts(found)[0]


def test_parts_that_are_others_now_are_left_out(bench, tmp_path, monkeypatch):
    engine, run = a_run(bench, tmp_path)
    monkeypatch.setattr(head_parts, "MOST_PARTS", 1)
    found = parts_removed(bench, engine, run)
    assert (found["operations"], found["changed"]) == ([], 1)


def test_a_run_that_was_not_read_as_the_model_runs_is_refused(bench, tmp_path):
    engine, run = a_run(bench, tmp_path, settings=EngineSettings("embedding"))
    with pytest.raises(UserMistake, match="read off weights alone"):
        parts_removed(bench, engine, run)


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
