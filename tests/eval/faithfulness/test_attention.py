"""Attention from weights against attention in the running model: texts, ranks, plain computation, command, report."""

from __future__ import annotations

import ast
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from typer.testing import CliRunner

from eval.commands.check import app
from eval.commands.check_options import MOST_OF_TEXTS
from eval.errors import AttentionOutOfReach, MixedResults
from eval.faithfulness.attention import experiment, texts
from eval.faithfulness.attention.experiment import attention
from eval.faithfulness.attention.keys import nearness, rho, unit_ranks
from eval.faithfulness.attention.measured import EARLIEST, EVERY, OVER_KEYS, Predicted, repeat_means, text_means
from eval.faithfulness.attention.readings import READINGS
from eval.faithfulness.attention.summary import area
from eval.faithfulness.attention.texts import (
    LENGTH,
    MAX_TOKENS,
    REPEATED,
    REPEATS,
    Text,
    cut,
    repeated_tokens,
    shipped_texts,
    text_files,
)
from eval.faithfulness.bench import Bench
from eval.faithfulness.report import figures
from eval.faithfulness.report.attention import PUBLISHED, keys_by_layer, read_attention, reading_panels
from eval.faithfulness.report.text import table_text
from maps_engine.errors import UserMistake
from maps_engine.null_heads import null_checkpoint
from maps_engine.qk import readings
from maps_engine.qk.content import content
from maps_engine.qk.readings import read_behind
from tests.support.eval.faithfulness_models import tiny_bench
from tests.support.eval.named_runs import word_ids, wordy_bench

ROTARY = ("llama", "gemma2", "qwen3", "olmo2", "gpt-oss", "bloom")


def words(checkpoint, n: int, seed: int = 0) -> str:
    """A text of so many tokens."""
    ids = random.Random(seed).choices(word_ids(checkpoint), k=n)
    return "".join(checkpoint.vocabulary.text(i) for i in ids)


def some_texts(checkpoint) -> tuple[Text, ...]:
    return tuple(Text(f"text {i}", "made", words(checkpoint, 300, i)) for i in range(2))


# ranks


def test_rho_is_scipy_s_among_the_keys_that_are_seen() -> None:
    chance = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 6, (2, 3, 5, 20), generator=chance).float() for _ in range(2))  # with ties
    seen = torch.rand(2, 3, 5, 20, generator=chance) > 0.3
    found = rho(unit_ranks(first, seen), unit_ranks(second, seen))
    for place in np.ndindex(2, 3, 5):
        wanted = stats.spearmanr(first[place][seen[place]], second[place][seen[place]]).statistic
        assert float(found[place]) == pytest.approx(wanted, abs=1e-5)


def test_keys_that_are_all_alike_count_as_nothing() -> None:
    seen = torch.ones(1, 4, dtype=torch.bool)
    assert float(rho(unit_ranks(torch.zeros(1, 4), seen), unit_ranks(torch.arange(4.0)[None], seen))) == 0.0
    assert float(rho(unit_ranks(torch.ones(1, 4), ~seen), nearness(~seen))) == 0.0


def test_nearer_keys_rank_higher() -> None:
    seen = torch.ones(6, 6).tril().bool()
    seen[4, 1] = False
    assert torch.allclose(nearness(seen), unit_ranks(torch.arange(6.0).expand(6, 6), seen))


# measures


def naive_rho(first: Tensor, second: Tensor) -> float:
    return float(stats.spearmanr(first.double().numpy(), second.double().numpy()).statistic)


def test_measures_of_a_text_are_those_of_the_plain_computation(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    weights, start, layer = bench.checkpoint.weights, bench.checkpoint.vocabulary.start, 1
    (pieces,) = cut(some_texts(bench.checkpoint)[:1], bench.checkpoint.vocabulary, 2 * LENGTH)
    before = read_behind(bench.checkpoint)
    found = text_means(bench.model, Predicted(weights, None, start, before), pieces.ids)
    real = bench.model.model(input_ids=pieces.ids, output_attentions=True).attentions[layer]
    stream = weights.residuals(pieces.ids.flatten(), before)
    stream.advance()
    rows, s = stream.rows.view(*pieces.ids.shape, -1), len(start)
    said = content(weights, layer, stream.rows)
    for head in range(weights.shape.n_heads):
        rhos: dict[str, list[float]] = {"placed": [], "content": [], "near": []}
        for text in range(len(rows)):
            whole = torch.cat([stream.start[:s], rows[text, s:]])
            logits = weights.queries_keys(layer, whole[None]).logits()[0, head]
            queries, keys = (one[head].view(*pieces.ids.shape, -1)[text] for one in (said.queries, said.keys))
            for query in range(EARLIEST, LENGTH, EVERY):
                seen = slice(s, query + 1)
                wanted = real[text, head, query, seen]
                rhos["placed"].append(naive_rho(logits[query, seen], wanted))
                rhos["content"].append(naive_rho(keys[seen] @ queries[query], wanted))
                rhos["near"].append(naive_rho(torch.arange(s, query + 1), wanted))
        for name, each in rhos.items():
            assert float(found[name][layer, head]) == pytest.approx(np.mean(each), abs=2e-3), name
    later = range(EARLIEST, LENGTH)
    for name, column in {"previous": -1, "itself": 0}.items():
        wanted = np.mean([float(real[:, 2, i, i + column].mean()) for i in later])
        assert float(found[name][layer, 2]) == pytest.approx(wanted, abs=1e-5)
    assert float(found["first"][layer, 2]) == pytest.approx(float(real[:, 2, EARLIEST:, 0].mean()), abs=1e-5)


def test_measures_of_tokens_that_repeat_are_those_of_the_plain_computation(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    ids = repeated_tokens(bench.checkpoint.vocabulary)
    s = len(bench.checkpoint.vocabulary.start)
    assert ids.shape == (REPEATS, s + 2 * REPEATED)
    assert torch.equal(ids[:, s : s + REPEATED], ids[:, s + REPEATED :])
    assert all(len(set(one.tolist())) == REPEATED for one in ids[:, s : s + REPEATED])
    found = repeat_means(bench.model, ids[:3])
    real = bench.model.model(input_ids=ids[:3], output_attentions=True).attentions
    for name, behind in {"duplicate": REPEATED, "induction": REPEATED - 1}.items():
        seconds = range(s + REPEATED + 1, s + 2 * REPEATED)
        wanted = np.mean([float(real[1][:, 3, i, i - behind].mean()) for i in seconds])
        assert float(found[name][1, 3]) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("family", ROTARY)
def test_where_no_word_knows_of_another_the_order_of_keys_is_the_model_s(family: str, tmp_path) -> None:
    """That is so in layer 0: windows, caps, sinks and slopes are then the only things to get wrong."""
    bench = tiny_bench(tmp_path, family)
    weights = bench.checkpoint.weights
    ids = torch.randint(20, 90, (3, LENGTH), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = 0
    null = null_checkpoint(bench.checkpoint, seed=1).weights
    found = text_means(bench.model, Predicted(weights, null, (0,), (0, 3)), ids)
    assert {one.shape for one in found.values()} == {(weights.shape.n_layers, weights.shape.n_heads)}
    assert float(found["placed"][0].min()) > 0.995
    assert float(found["null placed"][0].max()) < 0.98
    assert all(bool((one.abs() <= 1).all()) for one in found.values())


def test_attention_is_read_where_it_is_computed_in_the_open(tmp_path) -> None:
    bench = tiny_bench(tmp_path, attention="sdpa")
    with pytest.raises(AttentionOutOfReach, match="can only be read where it is computed in the open"):
        bench.model.attention_weights(torch.tensor([[0, 1, 2]]))


# texts


def test_the_texts_that_come_with_the_package() -> None:
    prose, code = shipped_texts()
    assert (prose.name, code.name) == ("prose", "code")
    assert len(prose.text.split()) > 14_000
    assert re.search(r"[A-Z]\w+ [A-Z]\w+, .+ \(1[5-8]\d\d\)", prose.source)  # author, title, year
    assert not re.search(r"gutenberg|ebook|project|https?:", prose.text, re.IGNORECASE)
    assert prose.digest != code.digest
    assert len(ast.parse(code.text).body) > 20


def test_pieces_are_shared_out_evenly(tmp_path) -> None:
    checkpoint = wordy_bench(tmp_path).checkpoint
    n = LENGTH - len(checkpoint.vocabulary.start)
    texts = [Text(name, "made", words(checkpoint, k * n)) for name, k in (("long", 9), ("short", 1), ("other", 4))]
    assert [len(one.ids) for one in cut(texts, checkpoint.vocabulary, 8 * LENGTH)] == [4, 1, 3]
    assert [len(one.ids) for one in cut(texts, checkpoint.vocabulary, 100 * LENGTH)] == [9, 1, 4]
    (first, *_) = cut(texts, checkpoint.vocabulary, 3 * LENGTH)
    assert first.ids[0].tolist() == [*checkpoint.vocabulary.start, *checkpoint.vocabulary.encode(texts[0].text)[:n]]


def test_texts_that_are_too_short_and_too_few_tokens_are_refused(tmp_path) -> None:
    checkpoint = wordy_bench(tmp_path).checkpoint
    with pytest.raises(UserMistake, match="the text some is too short: got 20 tokens; expected at least 127"):
        cut([Text("some", "made", words(checkpoint, 20))], checkpoint.vocabulary, MAX_TOKENS)
    for few in (2 * LENGTH - 1, 8):
        with pytest.raises(UserMistake, match=f"too few tokens: got {few} for 2 texts; expected 128 for each text"):
            cut(some_texts(checkpoint), checkpoint.vocabulary, few)


def test_a_vocabulary_of_few_tokens_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(texts, "REPEATED", 500)
    with pytest.raises(UserMistake, match=r"too few tokens to make texts of: got .*; expected at least 500"):
        repeated_tokens(wordy_bench(tmp_path).checkpoint.vocabulary)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the text cannot be read: got "),
        (b"", "the text is empty"),
        (b" \n\t", "the text is empty"),
        (b"caf\xe9 au lait", "the text is not in UTF-8: got .*other bytes at 3"),
    ],
)
def test_files_that_are_no_text_are_refused_in_one_line(content, said, tmp_path) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(app, ["attention", "--text", str(path)])
    assert result.exit_code == 2
    assert re.search(said, result.output)
    assert "Give a text file with --text." in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_files_are_told_apart_by_their_names(tmp_path) -> None:
    paths = [tmp_path / name / "text.txt" for name in "ab"]
    for i, path in enumerate(paths):
        path.parent.mkdir()
        path.write_text(f"\ufeffWords, {i}.", "utf-8")
    assert [(one.name, one.text) for one in text_files(paths)] == [
        ("text.txt", "Words, 0."),
        ("text.txt 2", "Words, 1."),
    ]


def test_the_option_names_as_many_tokens_as_the_experiment() -> None:
    assert MOST_OF_TEXTS == MAX_TOKENS


# the experiment


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


# the command and the report


def test_the_command_and_the_report(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    path = tmp_path / "own|words.txt"
    path.write_text(words(bench.checkpoint, 300))
    common = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    asked = ["attention", *common, "--text", str(path)]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "| previous |" in shown.output
    assert "| **all texts** | 48 |" in shown.output
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


def test_models_that_learn_a_place_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(readings, "LENGTH", 8)  # a tiny vocabulary has not enough words for more
    tiny_bench(tmp_path, "gpt2")
    path = tmp_path / "text.txt"
    path.write_text("the old man and the sea " * 100)
    asked = ["attention", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--text", str(path)]
    result = CliRunner().invoke(app, [*asked, "--device", "cpu"])
    assert result.exit_code == 2
    assert "a vector for each place" in result.output


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
    "keys": [{"text": "all", "pieces": 7, "queries": 168} | {name: spread(0.4) for name in OVER_KEYS}],
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
    assert keys.splitlines()[2].startswith("| **all texts** | 168 | 0.40 [0.35, 0.45] |")


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
