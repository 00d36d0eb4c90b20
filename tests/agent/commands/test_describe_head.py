"""describe-head as a user meets it: help, mistakes in one line, JSON, and a page on which tokens are inert."""

import io
import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from agent.commands.describe_head import app
from agent.output.console import echo_json, fail, inert, one_line_errors, token_text
from agent.output.terminal.head_page import show_page
from agent.results.descriptions import Claim, HeadDescription
from agent.results.evidence import Retrieved
from agent.results.outcomes import HeadOperation, PairTest, RowTest, TestedRow, TestResult
from agent.results.reports import HeadReport
from maps_engine.errors import CacheUnusable, OutOfRange
from maps_engine.results import ConstantPart, HeadPart, RowsView, ScoredToken
from tests.support.agent.mappings import HOSTILE, mapping, noise_rows, row
from tests.support.believable import made_provenance
from tests.support.tiny_models import tiny_model

RUN = CliRunner()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(tiny_model("llama", tmp_path_factory.mktemp("tiny"))[0])


def command(*arguments, env=None):
    return RUN.invoke(app, list(arguments), env=env)


def report(**changes) -> HeadReport:
    rows = [row(" France", [" Paris", "Paris"]), *noise_rows(3)]
    values = {
        "mapping": mapping(rows, suppressed_rows=tuple(noise_rows(12, seed=1))),
        "retrieved": (Retrieved("country-to-capital", 0.61234), Retrieved("copying", -0.2)),
        "description": HeadDescription(
            "ok", "lexical", "Countries (4 of 4).", "Maps a country to its capital (1 of 1 known pairs).",
            "country to capital", 0.5, "counted", (Claim("pairs", "country-to-capital", 1, 1, 0.1, 3.0),),
        ),
        "test": TestResult(
            "supported", "country to capital", "", PairTest(40, 10, 0.5, 99.6, 0.01, 0.4, 269), RowTest(1, 1, 2, 3),
            (
                TestedRow(row(" Italy", [" Rome", " Italy"]), " Rome", True),
                TestedRow(row(" Peru", [" Lima"]), "", True),
                TestedRow(row(" Chad", [" \x1b[3J"]), " x\x1b[2J", False),
            ),
        ),
    }  # fmt: skip
    values |= changes
    made = made_provenance(values["mapping"])
    values.setdefault("provenance", replace(made, fingerprint="f" * 64, checkpoint="package x"))
    return HeadReport(**values)


def page(one: HeadReport, **options) -> str:
    out = io.StringIO()
    show_page(Console(file=out, width=110, highlight=False), one, **options)
    return out.getvalue()


def test_help_is_instant_and_names_the_options():
    started = time.monotonic()
    code = "from agent.commands.describe_head import describe_head_main; describe_head_main()"
    made = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert time.monotonic() - started < 20
    for option in ("--model", "--layer", "--head", "--source", "--device", "--top", "--targets", "--describer",
                   "--json", "--no-cache", "--debug", "--no-suppressed", "HEADSCRIBE_MODEL"):  # fmt: skip
        assert option in made.stdout
    for heavy in ("torch", "transformers", "langchain", "chromadb", "numpy"):
        assert not re.search(rf"\| +{heavy}$", made.stderr, re.M), heavy


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["--layer", "-1", "--head", "0"], "layer cannot be negative: got -1"),
        (["--layer", "0", "--head", "-2"], "head cannot be negative: got -2"),
        (["--layer", "0", "--head", "0", "--source", "magic"], "magic"),
        (["--layer", "0", "--head", "0", "--model", "{tiny}", "--lead-in", "\u2603"], "does not know"),
        (["--layer", "0", "--head", "0", "--words", "-1"], "Invalid value for '--words'"),
        (["--layer", "0", "--head", "0", "--describer", "magic", "--model", "{tiny}"], "no such describer: got magic"),
        (["--layer", "9", "--head", "0", "--model", "{tiny}"], "has no layer 9; expected 0 to 1"),
        (["--layer", "0", "--head", "9", "--model", "{tiny}"], "has no head 9; expected 0 to 3"),
        (["--layer", "0", "--head", "0", "--model", "{tiny}/absent"], "absent"),
        (["--layer", "0", "--head", "0", "--model", "{tiny}", "--device", "abacus"], "unknown device: got abacus"),
        (["--layer", "x", "--head", "0"], "Invalid value for '--layer'"),
        (["--head", "0"], "--layer"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments, needle, tiny):
    made = command(*(a.replace("{tiny}", tiny) for a in arguments))
    assert made.exit_code == 2
    assert needle in made.output
    assert "Traceback" not in made.output
    if made.output.startswith("error: "):
        assert made.output.count("\n") == 1


def test_the_page_tells_all_operations_and_the_parts():
    one = report()
    common = (ScoredToken(" are", 1, 4.0), ScoredToken("\x1b[31m", 2, 3.0))
    parts = tuple(HeadPart(share, 0.5, 30, common, one.mapping.rows) for share in (0.214, 0.1))
    pairs = PairTest(32, 10, 0.84, 99.1, 0.02, 0.5, 269, shuffled=0.06)
    test = TestResult("supported", "x", pairs=pairs, tested_rows=one.test.tested_rows)
    operations = (
        HeadOperation("country to capital", "", "pairs", one.test, None, also=("place to \x1b[31mcity",)),
        HeadOperation('plural nouns to "are"', "", "part", test, 1, 0.1),
    )
    text = page(replace(one, mapping=replace(one.mapping, parts=parts), operations=operations))
    assert "All operations that its tests support" in text
    assert re.search(r"country to capital \(also[^)]*place", text)
    assert re.search(r'2 +plural nouns to "are" +0.84 of 32 +0.06 +99 % +␣Italy → ␣Rome', text)
    assert "Its parts: words for which it writes alike (31% of what it writes besides)" in text
    assert re.search(r"1 +21.4% +\S", text)
    assert "\x1b[31m" not in text
    told = replace(one, mapping=replace(one.mapping, parts=parts), operations=operations).to_json()
    assert [found["operation"] for found in told["description"]["operations"]] == [x.operation for x in operations]
    assert told["description"]["operations"][1]["rows"][0]["token"] == " Italy"
    assert [part["share"] for part in told["parts"]] == [0.214, 0.1]
    assert {"members", "common", "held_out_rows"}.isdisjoint(told["parts"][0])


def test_environment_variables_stand_for_options():
    made = command("--head", "0", env={"HEADSCRIBE_LAYER": "-3"})
    assert "got -3" in made.output
    made = command("--layer", "0", "--head", "0", env={"HEADSCRIBE_SOURCE": "magic"})
    assert "magic" in made.output


def test_debug_shows_the_traceback():
    made = command("--layer", "-1", "--head", "0", "--debug")
    assert isinstance(made.exception, OutOfRange)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OutOfRange("no\nsuch", got="a\x1b[31m"), 2, "error: no such: got a<U+001B>[31m\n"),
        (CacheUnusable("the cache"), 1, "error: the cache\n"),
        (PermissionError(13, "Permission denied", "place"), 1, "error: Permission denied: place\n"),
        (KeyboardInterrupt(), 130, "error: stopped\n"),
        (MemoryError(), 1, "error: out of memory. Take a smaller model, or --device of a larger machine.\n"),
    ],
)
def test_errors_become_one_line(error, code, line, capsys):
    with pytest.raises(typer.Exit) as caught, one_line_errors(debug=False):
        raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == line.replace("<U+001B>", "␛")


def test_errors_of_ours_are_not_hidden():
    with pytest.raises(ZeroDivisionError), one_line_errors(debug=False):
        _ = 1 / 0
    with pytest.raises(OutOfRange), one_line_errors(debug=True):
        raise OutOfRange("x")


def test_fail_is_one_line(capsys):
    with pytest.raises(typer.Exit):
        fail("a\nb\u202ec", 1)
    assert capsys.readouterr().err == "error: a b<U+202E>c\n"


def test_json_has_the_promised_keys_and_no_nan(capsys):
    echo_json(report(retrieved=(Retrieved("x", float("nan")),)).to_json())
    text = capsys.readouterr().out
    assert text.isascii()
    value = json.loads(text)
    assert {"model", "layer", "head", "source", "rows", "suppressed_rows", "retrieved", "description", "test",
            "provenance"} <= set(value)  # fmt: skip
    assert {"token", "token_id", "salience", "targets"} <= set(value["rows"][0])
    assert {"token", "token_id", "score"} == set(value["rows"][0]["targets"][0])
    assert value["retrieved"] == [{"operation": "x", "similarity": None}]
    assert {"status", "input_strings", "observed_pattern", "operation", "confidence", "describer",
            "reasoning"} <= set(value["description"])  # fmt: skip
    assert "held_out_rows" not in value


def test_the_page_says_everything():
    text = page(report())
    for part in ("Head 3.2 of made", "source: embedding\n",
                 "ok  country to capital",
                 "confidence 0.50, lexical",
                 "When it attends to a token, it maps a country to its capital (1 of 1 known pairs).",
                 "test     supported", "40 new pairs: score 0.50 in the top 10, higher than 100 % of the other",
                 "✓   ␣Italy", "✓   ␣Peru", "✗   ␣Chad", "␣Rome  ␣Italy",
                 "rows that fit: 1 of 1 shown, 2 of 3 held out", "country-to-capital 0.61", "␣France",
                 "␣Paris  Paris",
                 "most suppressed", "checkpoint ffffffffffff package x"):  # fmt: skip
        assert part in text, part
    assert "\x1b" not in text
    assert "most suppressed" not in page(report(), suppressed=False)


def test_the_page_shows_the_same_tokens_as_the_test_reads_them():
    one = report()
    assert "The test reads" not in page(one)
    view = RowsView("residual behind the start of texts", (replace(one.mapping.rows[0], salience=8.125),))
    text = page(replace(one, mapping=replace(one.mapping, same_tokens=view)))
    assert "The test reads: residual behind the start of texts" in text
    assert "8.125" in text


def test_undertrained_tokens_are_dimmed_and_explained():
    one = report()
    assert "undertrained" not in page(one)
    (first, *_) = one.mapping.rows
    marked = replace(one, mapping=replace(one.mapping, undertrained=(first.token_id,)))
    assert "Dimmed tokens are undertrained" in page(marked)


def test_the_page_shows_what_is_in_every_row():
    one = report()
    assert "Whatever it reads" not in page(one)
    part = ConstantPart(0.414, (ScoredToken(" the", 5, 2.0), ScoredToken("\x1b[2J", 6, 1.0)))
    text = page(replace(one, mapping=replace(one.mapping, constant=part)))
    assert "Whatever it reads it promotes (41% of the length of a salient row): ␣the" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("status", "needle"), [("unclear", "too little evidence"), ("failed", "too little evidence")])
def test_the_page_of_a_head_without_description(status, needle):
    one = report(
        description=HeadDescription(status, "lexical", operation="unclear", reason="too little evidence"),
        test=TestResult("not testable", "unclear", f"the description is {status}"),
        retrieved=(),
    )
    text = page(one)
    assert status in text
    assert needle in text
    assert "no known operation" in text


def test_hostile_tokens_are_inert_on_the_page():
    rows = [row(token, HOSTILE[:6], first_id=i * 99) for i, token in enumerate(HOSTILE)]
    bad = "[bold red]x[/] \x1b[2J \u202e"
    one = report(
        mapping=mapping(rows, model=bad),
        description=HeadDescription("ok", bad, bad, bad, bad, 0.1, bad),
        retrieved=(Retrieved(bad, 0.5),),
    )
    text = page(one)
    for character in ("\x1b", "\u202e", "\x00", "\u200b", "\ud800"):
        assert character not in text
    assert "[bold red]x[/]" in text
    assert "[bold]x[/bold]" in text
    assert "<script>alert(1)</script>" in text


def test_inert_texts():
    assert token_text(" a").plain == "␣a"
    assert inert("a\n b\x00").plain == "a b␀"


@pytest.fixture(scope="module")
def described():
    made = command("--layer", "26", "--head", "2", "--describer", "lexical", "--json")
    assert made.exit_code == 0, made.output
    return json.loads(made.stdout)


@pytest.mark.model
def test_a_real_head_as_json(described):
    assert (described["model"], described["layer"], described["head"]) == ("smollm2-135m", 26, 2)
    assert [len(described["rows"]), len(described["rows"][0]["targets"])] == [30, 5]
    assert described["description"]["status"] == "ok"
    assert described["test"]["verdict"] == "supported"
    assert len(described["retrieved"]) == 5
    assert described["provenance"]["fingerprint"]
