"""`map-relations` as a user runs it: on tiny real checkpoints, with own pairs, and with all that can go wrong."""

from __future__ import annotations

import csv
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.commands.map_relations import app
from maps_engine.scores.table_json import scores_to_json
from tests.support.relation_tables import made_up_scores
from tests.support.tiny_models import tiny_model, tiny_tokenizer

WIDE = {"COLUMNS": "160", "HEADSCRIBE_MODEL": "", "HEADSCRIBE_SOURCE": "", "TERM": "dumb"}


def run(*arguments: object, env: dict[str, str] | None = None):
    return CliRunner().invoke(
        app, [str(a) for a in arguments], env={**{k: v for k, v in WIDE.items() if v}, **(env or {})}
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder, _ = tiny_model("llama", tmp_path_factory.mktemp("tiny"))
    return folder


@pytest.fixture(scope="module")
def words() -> list[str]:
    """Words that the tiny tokenizer has as one token behind a space."""
    tokenizer = tiny_tokenizer()
    texts = [tokenizer.decode([i]) for i in range(1, tokenizer.get_vocab_size())]
    return [t[1:] for t in texts if t.startswith(" ") and t[1:].isalpha()]


@pytest.fixture
def pairs(words, tmp_path) -> Path:
    file = tmp_path / "neighbours.csv"
    rows = [f"{a},{b}" for a, b in itertools.pairwise(words)]
    file.write_text("source,target\n" + "\n".join(rows))
    return file


def test_own_pairs_give_a_page(model, pairs):
    done = run("--model", model, "--pairs", pairs, "--min-pairs", 5)
    assert done.exit_code == 0, done.output
    assert "neighbours" in done.stdout
    assert "1 of 1 operations scored" in done.stdout
    assert "Heads read: residual behind the start of texts." in done.stdout
    assert done.stderr == ""  # no bar where standard error is no terminal


def test_json_has_the_promised_form(model, pairs, words):
    done = run("--model", model, "--pairs", pairs, "--min-pairs", 5, "--source", "embedding", "--json", "--k", 3)
    whole = json.loads(done.stdout)
    assert (whole["model"], whole["source"]) == (str(model), "embedding")
    (one,) = whole["relations"]
    assert (one["name"], one["k"], one["pairs"], one["used"]) == ("neighbours", 3, len(words) - 1, len(words) - 1)
    assert [len(row) for row in one["scores"]] == [4, 4]
    assert [len(row) for row in one["null"]] == [4, 4]
    assert whole["settings"]["k"] == 3
    assert whole["findings"]["sharing"]["n_pairs"] >= 0


def test_heads_read_the_residual_stream_unless_something_else_is_asked_for(model, pairs):
    options = ("--model", model, "--pairs", pairs, "--min-pairs", 5, "--k", 10, "--json")
    given = {
        name: json.loads(run(*options, *more).stdout)
        for name, more in {
            "none": (),
            "residual": ("--source", "residual"),
            "lead-ins": ("--lead-in", " the red", "--lead-in", " he saw the"),
            "paper": ("--source", "paper"),
            "first-mlp": ("--source", "first-mlp"),
        }.items()
    }
    assert given["none"] == given["residual"]
    assert (given["none"]["source"], given["none"]["lead_in"]) == ("residual", [""])
    assert (given["lead-ins"]["source"], given["lead-ins"]["lead_in"]) == ("residual", [" the red", " he saw the"])
    assert given["lead-ins"]["relations"] != given["none"]["relations"]
    assert given["paper"] == given["first-mlp"]
    assert given["paper"]["relations"] != given["none"]["relations"]
    assert {"sources", "by_source", "source_choice"}.isdisjoint(given["none"])


def test_too_few_pairs_are_said(model, pairs, words):
    done = run("--model", model, "--pairs", pairs, "--min-pairs", 1000, "--source", "embedding")
    assert done.exit_code == 0
    assert f"too few pairs ({len(words) - 1} of {len(words) - 1})" in done.stdout


def test_first_token_targets(model, words, tmp_path):
    file = tmp_path / "long.tsv"
    file.write_text("\n".join(f"{a}\t{b}zqzq" for a, b in itertools.pairwise(words)))
    options = ("--model", model, "--pairs", file, "--min-pairs", 5, "--source", "embedding")
    assert "too few pairs (0 of" in run(*options).stdout
    assert "long (first token)" in run(*options, "--target", "first-token").stdout


def test_a_folder_and_a_file_together(model, pairs, words, tmp_path):
    folder = tmp_path / "sets"
    folder.mkdir()
    rows = [[a, a] for a in words]
    (folder / "same.json").write_text(json.dumps(rows))
    (folder / "same too.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = run("--model", model, "--pairs", pairs, "--pairs", folder, "--min-pairs", 5, "--source", "embedding")
    assert done.exit_code == 0, done.stderr
    assert all(name in done.stdout for name in ("neighbours", "same", "same-too"))


def test_a_copying_set_of_ones_own_is_scored_whole(model, words, tmp_path):
    file = tmp_path / "copies.csv"
    file.write_text("\n".join(f"{word},{word}" for word in words))
    options = ("--model", model, "--pairs", file, "--min-pairs", 5, "--source", "embedding")
    (one,) = json.loads(run(*options, "--json").stdout)["relations"]
    assert (one["used"], one["dropped"]) == (len(words), {})
    assert "left out" not in run(*options).stdout


def test_why_own_pairs_were_left_out_is_said_in_every_output(model, words, tmp_path):
    file = tmp_path / "mixed.csv"
    rows = [f"{word},{word}" for word in words] + ["zqzqzq,b", "zqzqzqz,b", f"{words[0]},zqzqzq"]
    file.write_text("\n".join([*rows, "qzqzq,a"]))
    reasons = {
        "source takes several tokens": 3,
        "another row has the same source: its targets are joined": 1,
    }
    options = ("--model", model, "--pairs", file, "--min-pairs", 5, "--source", "embedding")
    files = ("--csv", tmp_path / "a.csv", "--report", tmp_path / "a.html")
    page = run(*options, *files).stdout
    (one,) = json.loads(run(*options, "--json").stdout)["relations"]
    assert (one["pairs"], one["used"], one["dropped"]) == (len(words) + 4, len(words), reasons)
    with (tmp_path / "a.csv").open(newline="") as table:
        left_out = {row["left_out"] for row in csv.DictReader(table)}
    assert left_out == {"; ".join(f"{reason}: {n}" for reason, n in reasons.items())}
    assert "own pairs left out" in page
    report = (tmp_path / "a.html").read_text()
    for reason, n in reasons.items():
        assert f"{reason}: {n}" in page
        assert f"{reason}: {n}" in report


def test_what_the_vocabulary_leaves_of_an_own_file_is_said_where_nothing_is_scored(model, tmp_path):
    file = tmp_path / "foreign.csv"
    file.write_text("zqzqzq,b\n")
    page = run("--model", model, "--pairs", file, "--source", "embedding").stdout
    assert "foreign: too few pairs (0 of 1)" in page
    assert "source takes several tokens: 1" in page


def test_all_files_are_written(model, pairs, tmp_path):
    place = tmp_path / "new folder"
    options = ("--csv", place / "a.csv", "--report", place / "a.html", "--save", place / "a.json")
    done = run("--model", model, "--pairs", pairs, "--min-pairs", 5, *options, "--figures", place, "--format", "svg")
    assert done.exit_code == 0, done.stderr
    with (place / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    assert {row["relation"] for row in rows} == {"neighbours"}
    assert json.loads((place / "a.json").read_text())["relations"][0]["name"] == "neighbours"
    assert "neighbours" in (place / "a.html").read_text()
    names = {"overview.svg", "operations-per-head.svg", "heatmap-neighbours.svg"}
    assert names <= {path.name for path in place.iterdir()}


def test_parquet(model, pairs, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    file = tmp_path / "a.parquet"
    done = run("--model", model, "--pairs", pairs, "--min-pairs", 5, "--source", "embedding", "--parquet", file)
    assert done.exit_code == 0, done.stderr
    frame = pandas.read_parquet(file)
    assert len(frame) == 8
    assert frame["layer"].tolist() == [0] * 4 + [1] * 4


def test_settings_come_from_the_environment_too(model, pairs):
    env = {"HEADSCRIBE_MODEL": str(model), "HEADSCRIBE_SOURCE": "embedding", "HEADSCRIBE_MIN_PAIRS": "5"}
    done = run("--pairs", pairs, env=env)
    assert "Heads read: embedding." in done.stdout
    assert "1 of 1 operations scored" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "no-such-model"], "no-such-model"),
        (["--relations", "country-capital"], "Did you mean country-to-capital"),
        (["--relations", "copying", "--source", "second-mlp"], "unknown source representation"),
        (["--relations", "copying", "--target", "last-token"], "single or first-token"),
        (["--relations", "copying", "--threshold", "0"], "threshold"),
        (["--relations", "copying", "--min-pairs", "0"], "min_pairs cannot be below 1"),
        (["--relations", "copying", "--k", "0"], "k cannot be below 1"),
        (["--relations", "copying", "--top", "0"], "--top"),
        (["--relations", "copying", "--format", "gif"], "png or svg"),
        (["--relations", "copying", "--device", "abacus"], "abacus"),
        (["--pairs", "missing.csv"], "missing.csv"),
    ],
)
def test_mistakes_are_one_line_and_two(model, options, message):
    done = run(*([] if "--model" in options else ["--model", model]), *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_bad_rows_are_named_by_line(model, tmp_path):
    file = tmp_path / "bad.csv"
    file.write_text("a,b\nc\nd,e\n")
    done = run("--model", model, "--pairs", file)
    assert (done.exit_code, "line 2" in done.stderr) == (2, True)


def test_two_operations_of_one_name_are_refused(model, tmp_path):
    (tmp_path / "copying.csv").write_text("a,a\n")
    done = run("--model", model, "--relations", "paper", "--pairs", tmp_path / "copying.csv")
    assert (done.exit_code, "same name" in done.stderr) == (2, True)


def test_what_cannot_be_written_is_a_failure(model, pairs, tmp_path):
    (tmp_path / "file").write_text("")
    options = ("--model", model, "--pairs", pairs, "--min-pairs", 5, "--source", "embedding")
    done = run(*options, "--csv", tmp_path / "file" / "a.csv")
    assert (done.exit_code, "the file cannot be written" in done.stderr) == (1, True)
    assert run(*options, "--csv", tmp_path).exit_code == 2  # known before any work


def test_parquet_without_pyarrow_says_how_to_get_it(model, pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run("--model", model, "--pairs", pairs, "--parquet", tmp_path / "a.parquet")
    assert (done.exit_code, "headscribe[parquet]" in done.stderr) == (2, True)


def test_debug_shows_where_it_happened(model):
    done = run("--model", model, "--relations", "nonsense", "--debug")
    assert "UserMistake" in repr(done.exception)


@pytest.fixture
def saved(tmp_path) -> tuple[Path, Path]:
    paths = (tmp_path / "a.json", tmp_path / "b.json")
    for i, path in enumerate(paths):
        path.write_text(json.dumps(scores_to_json(made_up_scores(n=6, layers=10 + i, seed=i))))
    return paths


def test_compare_two_saved_tables(saved):
    done = run("compare", *saved)
    assert done.exit_code == 0, done.stderr
    assert "5 of 5 operations scored in both have heads from 0.15 on in both" in done.stdout
    rows = json.loads(run("compare", *saved, "--json").stdout)["relations"]
    assert len(rows) == 5
    assert all(row["in_both"] for row in rows)
    assert all(0 <= depth <= 1 for row in rows for depth in row["depths"])


def test_compare_a_saved_table_with_a_model(saved, model):
    done = run("compare", saved[0], model, "--relations", "copying", "--source", "embedding")
    assert done.exit_code == 0, done.stderr


def test_compare_refuses_other_files(tmp_path, saved):
    (tmp_path / "c.json").write_text("{}")
    done = run("compare", saved[0], tmp_path / "c.json")
    assert (done.exit_code, "no table of relation scores" in done.stderr) == (2, True)
    assert "Name a model instead" in done.stderr
    done = run("compare", saved[0], tmp_path / "missing.json")
    assert (done.exit_code, "cannot read" in done.stderr) == (2, True)


def test_hostile_names_reach_the_terminal_inert(model, words, tmp_path):
    rows = list(itertools.pairwise(words))
    own = {"name": "=1+1 \x1b[31m[bold]red", "category": "\u202ek", "description": "<script>", "pairs": rows}
    (tmp_path / "own.json").write_text(json.dumps(own))
    options = ("--model", model, "--pairs", tmp_path / "own.json", "--min-pairs", 5, "--source", "embedding")
    done = run(*options, "--csv", tmp_path / "a.csv", "--report", tmp_path / "a.html", "--figures", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "[bold]red" in done.stdout
    with (tmp_path / "a.csv").open(newline="") as file:
        assert all(row["relation"].startswith("'=") for row in csv.DictReader(file))
    assert "<script>" not in re.search("<main.*</main>", (tmp_path / "a.html").read_text(), re.DOTALL)[0]


def test_help_is_instant_and_loads_nothing_heavy():
    code = (
        "import sys, agent.commands.map_relations; "
        "print([m for m in ('torch', 'matplotlib', 'rich.table', 'numpy', 'pandas', 'jinja2') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
    times = []
    for _ in range(3):
        start = time.process_time_ns(), time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from agent.commands.map_relations import map_relations_main as m; m()", "--help"],
            capture_output=True,
            check=True,
        )
        times.append(time.perf_counter() - start[1])
    assert min(times) < 2  # 0.3 s on a quiet machine
