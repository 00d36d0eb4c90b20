"""label-heads and runs as a user meets them: help, mistakes in one line, files, summary, what JSON holds."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console
from sqlalchemy import select, text
from typer.testing import CliRunner

from agent.commands.label_heads import app as label_app
from agent.commands.runs import app as runs_app
from agent.llm.token_usage import NO_USAGE, Usage
from agent.output.run_files import COLUMNS, check_export, export_run
from agent.output.run_report import embedded_json, head_values
from agent.output.terminal.label_progress import Tally, readable_time, shown_progress
from agent.output.terminal.label_summary import show_summary, summarise
from agent.pipeline import label as bulk
from agent.pipeline.worker import HeadDone, Stage
from agent.runs.database import writing
from agent.runs.identity import ModelCard
from agent.runs.records import TestRecord
from agent.runs.state import RunCounts
from agent.runs.store import open_run, store_result
from agent.runs.stored import stored_head
from agent.runs.tables import RunSummary
from maps_engine.errors import FileNotWritten
from maps_engine.model import ModelShape
from tests.support.agent.bulk_runs import QueueDescriber, letter_bench, tiny_request
from tests.support.believable import HOSTILE, a_mapping, a_report, identity_of
from tests.support.record_fixtures import *  # noqa: F403

RUN = CliRunner()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_request(tmp_path_factory.mktemp("model") / "tiny").model


@pytest.fixture
def rule_describer(monkeypatch):
    describer = QueueDescriber()
    monkeypatch.setattr(bulk, "open_workbench", lambda request, device=None: letter_bench(request, describer))
    return describer


def command(*arguments, app=label_app):
    return RUN.invoke(app, [str(a) for a in arguments])


def test_help_is_instant_and_imports_nothing_heavy():
    for module, entry in (("agent.commands.label_heads", "label_heads_main"), ("agent.commands.runs", "app")):
        heavy = ("torch", "chromadb", "langchain_core", "sqlalchemy", "ray")
        code = f"import sys; from {module} import {entry}; sys.argv = ['x', '--help']\n"
        code += f"try: {entry}()\nexcept SystemExit: pass\nprint([m for m in {heavy} if m in sys.modules])"
        made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert made.stdout.rstrip().endswith("[]"), made.stdout[-200:]


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["--layers", "0-99"], "has no layer 99; expected 0 to 1"),
        (["--heads", "x"], "not a list of heads"),
        (["--source", "magic"], "magic"),
        (["--describer", "magic"], "no such describer: got magic"),
        (["--device", "abacus"], "unknown device: got abacus"),
        (["--device", "cpu,"], "a device is empty"),
        (["--token-budget", "0"], "token budget must be at least 1"),
        (["--budget", "1"], "a money budget needs a price"),
        (["--llm-mode", "magic"], "no such form of request: got magic"),
        (["--export", "x.xlsx"], "unknown kind of export"),
        (["--export", "absent/folder/x.csv"], "cannot be written"),
        (["--price", "much"], "not a price"),
        (["--database", "mysql://x"], "not a database address"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments, needle, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "--describer" not in arguments and "--database" not in arguments:
        monkeypatch.setattr(
            bulk, "open_workbench", lambda request, device=None: letter_bench(request, QueueDescriber())
        )
    made = command("--model", tiny, *arguments)
    assert made.exit_code == 2, made.output
    assert needle in made.output
    assert "Traceback" not in made.output
    assert made.output.count("\n") == 1


def test_a_run_from_the_command_line_with_all_files(tiny, tmp_path, rule_describer):
    files = [tmp_path / name for name in ("a.jsonl", "a.csv", "a.parquet", "a.html")]
    exports = [part for path in files for part in ("--export", path)]
    database = tmp_path / "r.sqlite"
    common = ("--model", tiny, "--source", "embedding", "--database", database, "--device", "cpu")
    made = command(*common, *exports)
    assert made.exit_code == 0, made.output
    for part in (
        "run 1 (new): 8 heads",
        "8 of 8 heads",
        "6 named (75%), 1 unclear, 1 failed",
        "Most frequent operations",
    ):
        assert part in made.output
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert len(rows) == 8
    assert {"rows", "suppressed_rows", "held_out_rows", "claims", "retrieved", "raw_reply", "provenance"} <= set(
        rows[0]
    )
    table = list(csv.DictReader(io.StringIO(files[1].read_text("utf-8-sig"))))
    assert [r["status"] for r in table] == [r["status"] for r in rows]
    assert tuple(table[0]) == COLUMNS
    import pyarrow.parquet

    columns = pyarrow.parquet.read_table(files[2]).to_pydict()
    assert columns["operation"] == [r["operation"] for r in rows]
    assert files[3].read_text().startswith("<!doctype html>")
    again = command(*common, "--json")
    assert again.exit_code == 0
    value = json.loads(again.stdout)
    assert (value["state"], value["labelled"], value["run"]["counts"]["ok"]) == ("finished", 0, 6)
    assert [one["layer"] for one in value["layers"]] == [0, 1]
    assert "run 1 (continued): 8 of 8 heads are done" in again.stderr


def test_a_stopped_run_says_how_to_go_on(tiny, tmp_path, rule_describer, monkeypatch):
    import os
    import signal

    describe = rule_describer.describe

    def interrupt(evidence):
        os.kill(os.getpid(), signal.SIGINT)
        return describe(evidence)

    rule_describer.describe = interrupt
    common = ("--model", tiny, "--source", "embedding", "--database", tmp_path / "r.sqlite", "--workers", 1)
    made = command(*common)
    assert made.exit_code == 130, made.output
    assert "of 8 heads are done; the same command continues run 1" in made.output
    rule_describer.describe = describe
    assert command(*common).exit_code == 0


def test_dry_run_estimates_and_touches_no_database(tiny, tmp_path):
    database = tmp_path / "r.sqlite"
    made = command("--model", tiny, "--dry-run", "--json", "--database", database, "--source", "embedding")
    assert made.exit_code == 0, made.output
    value = json.loads(made.stdout)
    assert value["heads"] == 8
    parts = [v for k, v in value.items() if k.endswith("_seconds")]
    assert value["seconds"] == pytest.approx(sum(parts))
    assert len(parts) == 5
    assert all(v >= 0 for v in parts)
    assert value["peak_bytes"] > 4e8
    assert not database.exists()
    page = command("--model", tiny, "--dry-run", "--layers", "0")
    assert "4 heads" in page.output
    assert "GB" in page.output
    assert "what heads attend to" in page.output


def runs(engine, *arguments):
    return command(*arguments, "--database", engine.url.database, app=runs_app)


def test_runs_list_show_compare_export_delete(believable, tmp_path):
    engine, facts = believable
    listed = json.loads(runs(engine, "list", "--json").stdout)
    assert [one["run_id"] for one in listed] == [facts.run_id]
    assert "believable-360m" in runs(engine, "list").stdout
    shown = runs(engine, "show", facts.run_id).stdout
    assert "engine.source: first-mlp" in shown
    assert json.loads(runs(engine, "show", facts.run_id, "--json").stdout)["run"]["counts"]["total"] == 48
    same = json.loads(runs(engine, "compare", facts.run_id, facts.run_id, "--json").stdout)
    assert (same["same"], same["different"], same["settings"]) == (48, [], {})
    words = runs(engine, "compare", facts.run_id, facts.run_id).stdout
    assert "48 heads are described alike, 0 differently, 0 only in one run" in words
    out = tmp_path / "x.csv"
    assert "48 heads written" in runs(engine, "export", facts.run_id, out).stdout
    assert out.stat().st_size > 1000
    exported = json.loads(runs(engine, "export", facts.run_id, out, "--json").stdout)
    assert exported == [{"file": str(out), "heads": 48}]
    assert runs(engine, "delete", facts.run_id).exit_code == 1  # nobody said yes
    where = ("--database", engine.url.database)
    done = RUN.invoke(runs_app, ["delete", str(facts.run_id), "--json", *where], input="y\n")
    assert json.loads(done.stdout.partition("y\n")[2]) == {"deleted": facts.run_id}  # behind the answer's echo
    assert "Delete run 1 of believable-360m with" in done.stderr  # the question is no part of the JSON
    gone = runs(engine, "show", facts.run_id)
    assert (gone.exit_code, gone.output) == (2, "error: no such run: got 1. List the runs to see their numbers.\n")
    assert "no runs yet" in runs(engine, "list").stdout


@pytest.mark.parametrize("number", [0, -1, 2**31, 99999999999, 9223372036854775808])
def test_a_number_that_no_run_can_have_is_a_mistake(sqlite_engine, tmp_path, number):
    rest = {"show": [], "delete": [], "compare": [1], "export": [tmp_path / "x.csv"]}
    for name, more in rest.items():
        made = command(name, "--database", sqlite_engine.url.database, "--", number, *more, app=runs_app)
        assert (made.exit_code, "Invalid value for" in made.output) == (2, True), made.output


@pytest.fixture
def long_names(monkeypatch):
    counts = RunCounts(1000, 750, 100, 50, 0, 100)
    names = {"model": "long-model-name/" * 12, "describer": "openai:gpt-5-nano"}
    run = RunSummary(123, "id", names["model"], "f", names["describer"], "finished", 1.79e9, 1.79e9, {}, counts)
    monkeypatch.setattr("agent.runs.tables.list_runs", lambda engine: [run])


def test_long_names_leave_numbers_and_titles_of_the_list_whole(sqlite_engine, long_names):
    lines = [line.split() for line in runs(sqlite_engine, "list").stdout.splitlines() if line.strip()]
    assert " ".join(lines[0]) == "run heads named unclear failed model describer state started (UTC)"
    assert lines[2][:5] == ["123", "900/1000", "750", "100", "50"]
    assert lines[2][6:] == ["openai:gpt-5-nano", "finished", "2026-09-21", "14:13"]
    assert len(lines) == 3


@pytest.mark.parametrize("width", [40, 60, 80])
def test_on_a_narrow_terminal_runs_are_listed_with_their_numbers(sqlite_engine, long_names, monkeypatch, width):
    monkeypatch.setattr("agent.commands.runs.console", lambda: Console(file=sys.stdout, width=width))
    lines = runs(sqlite_engine, "list").stdout.splitlines()
    assert lines[0].startswith("run 123: 900 of 1000 heads, 750 named")
    assert all(len(line) <= width for line in lines)
    assert "finished" in " ".join(lines)


def test_closed_standard_output_is_no_traceback(believable):
    engine, facts = believable
    code = "from agent.commands.runs import app; app()"
    for words in ("list", f"show {facts.run_id}"):
        shell = f'exec "{sys.executable}" -c "{code}" {words} --database "{engine.url.database}" >&-'
        made = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True, check=False)
        assert (made.returncode, made.stderr) == (0, "")


def test_a_head_of_one_run_alone_is_not_described_differently(believable):
    engine, facts = believable
    few = replace(identity_of("believable-360m"), describer="other")
    card = ModelCard("believable-360m", "sha256:believable-360m", ModelShape(8, 6, 2, 576, 64, 49152))
    other = open_run(engine, card=card, identity=few, heads=[(0, 0), (7, 0)]).run_id
    for layer, operation in ((0, "copying"), (7, "antonym")):
        store_result(engine, other, a_report(a_mapping(layer, 0, operation=operation), operation))
    words = runs(engine, "compare", facts.run_id, other).stdout
    assert "1 heads are described alike, 1 differently, 46 only in one run" in words
    value = json.loads(runs(engine, "compare", facts.run_id, other, "--json").stdout)
    assert (value["same"], len(value["different"]), len(value["only_in_one"])) == (1, 1, 46)


def test_hostile_tokens_are_inert_in_every_file(believable, tmp_path):
    engine, facts = believable
    for name in ("x.jsonl", "x.csv", "x.parquet", "x.html"):
        assert export_run(engine, facts.run_id, tmp_path / name) == 48
    for cells in csv.reader(io.StringIO((tmp_path / "x.csv").read_text("utf-8-sig"))):
        assert not any(cell.lstrip(" ")[:1] in ("=", "+", "@", "\t") for cell in cells)
    page = (tmp_path / "x.html").read_text()
    assert page.count("<script") == 2
    assert "window.hacked=1</script>" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    lines = (tmp_path / "x.jsonl").read_text().splitlines()
    hostile = json.loads(next(line for line in lines if "window.hacked" in line))
    assert hostile["rows"][0]["token"] == HOSTILE[0]  # kept exactly, as data


def test_old_numbers_that_are_none_are_exported_as_null(believable, tmp_path):
    engine, facts = believable
    with writing(engine) as session:
        for test in session.scalars(select(TestRecord)):
            pairs = test.details["pairs"]
            test.details = test.details | {"pairs": pairs and pairs | {"score": math.nan, "k": math.inf}}
        session.execute(text('UPDATE heads SET rows = replace(rows, \'"salience": \', \'"salience": NaN, "was": \')'))
    assert export_run(engine, facts.run_id, tmp_path / "x.jsonl") == 48
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert all(one["rows"][0]["salience"] is None for one in rows)
    pairs = [one["test"]["pairs"] for one in rows if one["test"]["pairs"]]
    assert len(pairs) > 10
    assert {(one["score"], one["k"], one["n_pairs"]) for one in pairs} == {(None, None, 60)}


def test_a_file_appears_whole_or_not_at_all(believable, tmp_path, monkeypatch):
    engine, facts = believable
    target = tmp_path / "x.jsonl"
    target.write_text("before")
    monkeypatch.setattr(
        "agent.output.run_files.stored_heads", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileNotWritten, match="No space left"):
        export_run(engine, facts.run_id, target)
    assert sorted(tmp_path.iterdir()) == before
    assert target.read_text() == "before"


def test_parquet_without_pyarrow_is_said_before_any_work(tmp_path, monkeypatch):
    from agent.errors import ExtraMissing

    monkeypatch.setattr("agent.output.run_files.find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"headscribe\[parquet\]"):
        check_export(tmp_path / "x.parquet")


def test_embedded_json_cannot_end_its_element():
    text = embedded_json(["</script><!--", "&amp;", "\u2028"])
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == ["</script><!--", "&amp;", "\u2028"]


def test_values_of_a_head_are_short_and_visible(believable):
    engine, facts = believable
    values = head_values(stored_head(engine, facts.run_id, 7, 0))
    assert len(values["rows"]) == 30
    assert all(len(token) < 140 for token, _, _ in values["rows"])
    assert "new pairs score" in values["test"]


def test_the_summary_counts_all_three(believable):
    engine, facts = believable
    summary = summarise(engine, facts.run_id)
    counts = summary.run.counts
    assert sum(one.ok for one in summary.layers) == counts.ok
    assert sum(one.failed + one.unclear for one in summary.layers) == counts.failed + counts.unclear
    out = io.StringIO()
    show_summary(Console(file=out, width=120), summary)
    assert f"{counts.unclear} unclear, {counts.failed} failed" in out.getvalue()
    long = replace(summary, layers=(replace(summary.layers[0], layer=7, ok=5, operations=("long name " * 9,) * 3),))
    show_summary(Console(file=out, width=120), long)
    assert re.search(r"^ +7 +5 ", out.getvalue(), re.M)  # numbers stay however long the operations are


BEFORE = RunCounts(10, 1, 1, 0, 0, 8)


def test_progress_in_words():
    now = [0.0]
    tally = Tally(BEFORE, price=(2.0, 10.0), clock=lambda: now[0])
    assert tally.line() == "2 of 10 heads: 1 named, 1 unclear"
    for i, status in enumerate(("ok", "failed")):
        now[0] += 30
        tally.add(HeadDone(0, i, status, Usage(500_000, 100_000)))
    assert tally.line() == (
        "4 of 10 heads: 2 named, 1 unclear, 1 failed; 2 a minute, about 3 min left; 1,200,000 tokens, cost 4.00"
    )
    tally.add(Stage("reading"))
    assert tally.stage == "reading"


def test_lines_are_calm_where_there_is_no_terminal():
    now, out = [0.0], io.StringIO()
    tally = Tally(BEFORE, clock=lambda: now[0])
    with shown_progress(tally, console=Console(file=out, width=100)) as on_event:
        for i in range(8):
            now[0] += 10
            on_event(HeadDone(1, i, "ok"))
            on_event(Stage("x"))
    assert out.getvalue().count("\n") == 3  # after 30 s, 60 s and at the end


def test_a_bar_on_a_terminal():
    out = io.StringIO()
    console = Console(file=out, width=140, force_terminal=True)
    with shown_progress(Tally(BEFORE), console=console) as on_event:
        on_event(Stage("reading [bold]layer[/] \x1b[2J"))
        on_event(HeadDone(1, 1, "ok"))
    assert "3/10" in out.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (600, "10 min"), (7200, "2.0 h")])
def test_times(seconds, text):
    assert readable_time(seconds) == text


def test_without_a_price_nothing_has_a_cost():
    assert NO_USAGE.cost(None) is None
