"""Attention from weights against attention in the running model: the whole experiment, its command and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from eval.commands.check import app
from eval.errors import MixedResults
from eval.faithfulness.attention import experiment
from eval.faithfulness.attention.experiment import attention
from eval.faithfulness.attention.measured import OVER_KEYS, Predicted, text_means
from eval.faithfulness.attention.readings import READINGS
from eval.faithfulness.attention.summary import area
from eval.faithfulness.attention.texts import (
    LENGTH,
    Text,
    cut,
    shipped_texts,
)
from eval.faithfulness.bench import Bench
from eval.faithfulness.report import figures
from eval.faithfulness.report.attention import PUBLISHED, keys_by_layer, read_attention, reading_panels
from eval.faithfulness.report.text import table_text
from maps_engine.errors import UnsupportedModel
from maps_engine.null_heads import null_checkpoint
from maps_engine.qk import made_texts, readings
from maps_engine.qk.readings import read_behind
from tests.support.agent.queue_models import wordy_model
from tests.support.eval.made_texts import some_texts, words
from tests.support.eval.named_runs import wordy_bench
from tests.support.tiny_models import tiny_model


@pytest.fixture
def small(monkeypatch) -> None:
    """Batches so small that a text has several, and null heads in the first alone."""
    monkeypatch.setattr(experiment, "TOGETHER", 2)
    monkeypatch.setattr(experiment, "NULL_PIECES", 2)


class Killed(BaseException):
    """Stands for a process that is ended from outside."""


def kill_after(bench: Bench, n: int) -> None:
    """Ends the run when the batch behind `n` pieces of texts is stored."""

    def progress(what: str, done: int, total: int) -> None:
        if what == "texts in the running model" and done > n:
            raise Killed

    bench.progress = progress


def files(bench: Bench) -> dict[str, int]:
    """What is stored, and when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (bench.folder.path / "attention").iterdir()}


@pytest.mark.usefixtures("small")
def test_a_killed_run_goes_on_where_it_was(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    chosen = tuple(Text(one.name, one.source, one.text * 2) for one in some_texts(bench.checkpoint))
    whole = attention(wordy_bench(tmp_path / "other"), chosen, max_tokens=8 * LENGTH).to_json()
    kill_after(bench, 2)
    with pytest.raises(Killed):
        attention(bench, chosen, max_tokens=8 * LENGTH)
    kept = files(bench)
    assert len(kept) == 4  # readings of real and of null heads, and two batches
    again = wordy_bench(tmp_path)
    assert attention(again, chosen, max_tokens=8 * LENGTH).to_json() == whole
    assert files(again).items() >= kept.items()
    assert [one["pieces"] for one in whole["texts"]] == [4, 4]


def test_null_heads_are_asked_in_the_same_pieces_whatever_the_batch(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(experiment, "NULL_PIECES", 3)
    model = wordy_bench(tmp_path).checkpoint
    texts = (Text("a", "made", words(model, 700)), Text("b", "made", words(model, 300, 5)))
    found = []
    for batch in (1, 2, 16):
        bench = wordy_bench(tmp_path / str(batch), batch=batch)
        found.append(attention(bench, texts, max_tokens=8 * LENGTH).to_json()["keys"])
    assert [(one["pieces"], one["null_queries"] // 24) for one in found[0]] == [(7, 5), (5, 3), (2, 2)]
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            for name in OVER_KEYS:
                assert ours[name]["value"] == pytest.approx(theirs[name]["value"], abs=1e-4)


@pytest.mark.usefixtures("small")
def test_the_whole_is_the_mean_over_pieces(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    texts = (Text("a", "made", words(bench.checkpoint, 400)), Text("b", "made", words(bench.checkpoint, 130, 5)))
    table = attention(bench, texts, max_tokens=9 * LENGTH)
    found, weights = table.to_json(), bench.checkpoint.weights
    pieces = cut(texts, bench.checkpoint.vocabulary, 9 * LENGTH)
    predicted = Predicted(weights, None, bench.checkpoint.vocabulary.start, read_behind(bench.checkpoint))
    wanted = text_means(bench.model, predicted, torch.cat([one.ids for one in pieces]))
    for name in ("placed", "content", "near"):
        each = [one["keys"][name] for one in found["by_head"]]
        assert each == pytest.approx(wanted[name].flatten().tolist(), abs=2e-4)
        assert found["keys"][0][name]["value"] == pytest.approx(float(wanted[name].mean()), abs=2e-4)
    assert [one["text"] for one in found["keys"]] == ["all", "a", "b"]
    assert [one["pieces"] for one in found["keys"]] == [4, 3, 1]
    assert [one["reading"] for one in found["readings"]] == list(READINGS)
    previous = found["readings"][0]
    real = sum(one.n * one.means["previous"] for one in table.texts).flatten() / 4
    rho_of_heads = stats.spearmanr(table.read.real["previous"], real.numpy()).statistic
    assert previous["rho"]["value"] == pytest.approx(rho_of_heads, abs=1e-4)
    assert [one["real"] for one in previous["strongest"]] == pytest.approx(
        sorted(real.tolist(), reverse=True), abs=1e-4
    )


def test_other_settings_are_refused_and_another_seed_is_not(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    texts = some_texts(bench.checkpoint)[:1]
    first = attention(bench, texts).to_json()
    other = attention(bench, texts, seed=1).to_json()
    assert [one["real"] for one in first["by_head"]] == [one["real"] for one in other["by_head"]]
    assert first["readings"][0]["null"] != other["readings"][0]["null"]
    with pytest.raises(MixedResults, match="dtype"):
        attention(wordy_bench(tmp_path, dtype="bfloat16"), texts)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    read, clear = np.array([0.9, 0.2, 0.5, 0.5, 0.1]), np.array([True, False, True, False, False])
    found = area(read, clear)
    assert found.value == pytest.approx((3 + 2.5) / 6)
    assert found.n == 2
    assert area(read, np.zeros(5, dtype=bool)).value is None
    assert area(read, np.ones(5, dtype=bool)).value is None


def test_the_command_and_the_report(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    path = tmp_path / "own|words.txt"
    path.write_text(words(bench.checkpoint, 300))
    common = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    asked = ["attention", *common, "--text", str(path)]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "| previous |" in shown.output
    assert "| **all texts** | 48 (48) |" in shown.output
    assert "own\\|words.txt" in shown.output
    result = CliRunner().invoke(app, [*asked, "--json"])
    whole = json.loads(result.stdout)
    assert whole == json.loads((tmp_path / "out" / "attention.json").read_text())["result"]
    assert len(whole["by_head"]) == whole["heads"] == 8
    assert set(whole["by_head"][0]["keys"]) == set(OVER_KEYS)
    assert CliRunner().invoke(app, ["report", *common]).exit_code == 0
    report = (tmp_path / "out" / "report.md").read_text()
    assert "## Where heads look" in report
    assert "pairs" not in report
    assert "Running model in float32." in report
    assert {one.name for one in (tmp_path / "out" / "figures").iterdir()} == {
        "attention-heads.svg",
        "attention-keys.svg",
    }


def test_models_of_few_places_are_refused(tmp_path, monkeypatch) -> None:
    for module in (readings, made_texts):  # a tiny vocabulary has not enough words for more
        monkeypatch.setattr(module, "LENGTH", 8)
    tiny_model("gpt2", tmp_path / "model")
    path = tmp_path / "text.txt"
    path.write_text("the old man and the sea " * 100)
    asked = ["attention", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--text", str(path)]
    result = CliRunner().invoke(app, [*asked, "--device", "cpu"])
    assert result.exit_code == 2
    assert "too few places to read texts" in result.output


def test_a_model_that_learns_places_is_checked(tmp_path) -> None:
    """All 128 places of a text are needed, and one less is refused before anything runs."""
    for places in (LENGTH, LENGTH - 1):
        folder = tmp_path / str(places)
        wordy_model(folder / "model", "gpt2", n_positions=places)
        bench = wordy_bench(folder)
        if places < LENGTH:
            with pytest.raises(UnsupportedModel, match="127 places; expected at least 128"):
                attention(bench, some_texts(bench.checkpoint)[:1])
            assert list(bench.folder.path.rglob("*.json")) == []
        else:
            found = attention(bench, some_texts(bench.checkpoint)[:1]).to_json()
            first = [one["keys"]["placed"] for one in found["by_head"] if one["layer"] == 0]
            assert min(first) > 0.999  # no word knows of another yet, and each stands at its place


def spread(value: float) -> dict:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def one_reading(name: str, clear: int) -> dict:
    none = {"value": None, "low": None, "high": None}
    strongest = [{"layer": 3, "head": 1, "real": 0.871, "read": 0.404}]
    return {"reading": name, "rho": spread(0.8), "null": spread(0.1), "clear": clear, "strongest": strongest} | {
        "area": spread(0.945) if clear else none
    }


RESULT = {
    "heads": 2,
    "length": 128,
    "clear": 0.3,
    "texts": [{"name": "prose", "source": "a book", "pieces": 7}],
    "readings": [one_reading("previous", 4), one_reading("induction", 0)],
    "keys": [
        {"text": "all", "pieces": 7, "queries": 168, "null_queries": 96} | {name: spread(0.4) for name in OVER_KEYS}
    ],
    "by_head": [
        {"layer": layer, "head": 0}
        | {side: {"previous": 0.2, "induction": 0.1} for side in ("real", "read", "null")}
        | {"keys": dict.fromkeys(OVER_KEYS, 0.5 - layer)}
        for layer in (0, 1)
    ],
}


def test_numbers_are_shown_beside_each_other() -> None:
    readings, strongest, keys = table_text("attention", RESULT).split("\n\n")
    assert readings.splitlines()[2] == "| previous | 0.80 [0.75, 0.85] | 0.10 [0.05, 0.15] | 4 | 0.94 [0.89, 0.99] |"
    assert readings.splitlines()[3].endswith("| 0 | – |")
    assert strongest.splitlines()[2] == "| previous | 3.1 0.87 / 0.40 |"
    assert keys.splitlines()[2].startswith("| **all texts** | 168 (96) | 0.40 [0.35, 0.45] |")


def test_numbers_in_words() -> None:
    first, previous, induction, over_keys, null = read_attention(RESULT)
    assert "2 heads was measured in pieces of 128 tokens (7 of prose)" in first
    assert "the token before: over heads, ρ 0.80 [0.75, 0.85]; null heads 0.10" in previous
    assert "Heads above 0.3: 4, read higher than 94.5% of the others, on average." in previous
    assert induction.endswith("Heads above 0.3: 0.")
    assert "168 queries are put in order with a mean ρ of 0.40 [0.35, 0.45] by words and places" in over_keys
    assert str(PUBLISHED) in null


def test_figures_are_whole_and_the_same_every_time() -> None:
    assert keys_by_layer(RESULT)[0]["by_layer"] == [0.5, -0.5]
    assert reading_panels(RESULT)["previous"] == ([0.2, 0.2], [0.2, 0.2], 0.8)
    for draw in (
        lambda: figures.reading_scatter(reading_panels(RESULT)),
        lambda: figures.layer_lines(keys_by_layer(RESULT), up="ρ over keys"),
    ):
        assert draw() == draw()
        assert draw().rstrip().endswith(b"</svg>")


@pytest.mark.model
def test_the_default_model_looks_where_its_weights_say(tmp_path: Path) -> None:
    bench = Bench.open("smollm2-135m", tmp_path / "results", device="cpu")
    (prose, _) = cut(shipped_texts(), bench.checkpoint.vocabulary, 4 * LENGTH)
    null = null_checkpoint(bench.checkpoint).weights
    start, before = bench.checkpoint.vocabulary.start, read_behind(bench.checkpoint)
    found = text_means(bench.model, Predicted(bench.checkpoint.weights, null, start, before), prose.ids)
    assert float(found["placed"][0].min()) > 0.99
    previous = found["previous"].flatten().argsort(descending=True)[:8].tolist()
    assert {(11, 1), (2, 1), (1, 2), (16, 0)} <= {divmod(head, 9) for head in previous}
    means = {name: float(found[name].mean()) for name in OVER_KEYS}
    assert means["placed"] > means["near"] + 0.15
    assert means["content"] > PUBLISHED - 0.05
    assert abs(means["null placed"]) < 0.1
    assert abs(means["null content"]) < 0.1
