"""`rate-heads` from the first study to its report, through the command line; errors are one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from eval.commands.rate_heads import app as rate_heads
from eval.commands.serve_heads import app as serve_heads
from eval.rating.people import redeem
from eval.rating.ratings import Answer
from eval.rating.slots import confirm_instructions
from eval.rating.store import open_studies
from tests.support.believable import Believable
from tests.support.eval.studies import work

runner = CliRunner()
PLAIN = ("--no-tested-rows",)  # the model of the fixture's run is nowhere


@pytest.fixture
def database(filled: tuple[Engine, Believable], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    path = str(filled[0].url.database)
    monkeypatch.setenv("HEADSCRIBE_DATABASE", path)
    monkeypatch.setenv("HEADSCRIBE_DATA", str(tmp_path / "data"))
    return path


def ok(*arguments: str) -> str:
    result = runner.invoke(rate_heads, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = runner.invoke(rate_heads, arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_a_study_from_create_to_close(database: str, tmp_path: Path) -> None:
    made = json.loads(
        ok("create", "--name", "S", "--run", "1", "--heads-wanted", "5", "--raters", "2", *PLAIN, "--json")
    )
    assert made == {"study": 1, "content_hash": None}
    assert "is open, content" in ok("launch", "1")
    engine = open_studies(database)
    for _ in range(2):
        invited = json.loads(ok("invite", "--study", "1", "--json"))
        person = redeem(engine, invited["link"].rpartition("/")[2]).who.person_id
        confirm_instructions(engine, person)
        work(engine, person, lambda _: Answer("yes", "yes"))
    (status,) = json.loads(ok("status", "--json"))
    assert (status["done"], status["slots"], status["state"]) == (12, 12, "launched")
    assert "12 of 12 answers, 2 raters" in ok("status", "1")
    assert json.loads(ok("judge", "1", "--json"))["answers"] == 6
    report = json.loads(ok("agreement", "1", "--draws", "20", "--json", "--report", str(tmp_path / "r")))
    assert report["agreement"]["plausible"]["alpha"]["why"] == "undefined: all ratings equal"
    assert report["judges"][0]["judge"] == "lexical"
    assert (tmp_path / "r" / "report.html").is_file()
    assert "undefined: all ratings equal" in ok("agreement", "1", "--draws", "20")
    for fmt in ("csv", "jsonl", "label-studio"):
        assert "wrote" in ok("export", "1", "--format", fmt, "--out", str(tmp_path / fmt))
    exported = json.loads(ok("export", "1", "--format", "csv", "--out", str(tmp_path / "csv"), "--json"))
    assert exported == {"file": str(tmp_path / "csv"), "characters": len((tmp_path / "csv").read_bytes().decode())}
    other = str(tmp_path / "other.sqlite")
    assert json.loads(ok("import", str(tmp_path / "jsonl"), "--database", other, "--json"))["answers"] == 26
    assert len(json.loads(ok("approve", "1", "--dry-run", "--json"))) == 5
    assert "wrote" in ok("backup", str(tmp_path / "copy.sqlite"))
    copied = json.loads(ok("backup", str(tmp_path / "again.sqlite"), "--json"))
    assert copied == {"file": str(tmp_path / "again.sqlite"), "bytes": (tmp_path / "again.sqlite").stat().st_size}
    assert "is closed" in ok("close", "1")
    assert ok("token", "--name", "ci", "--scope", "read").startswith("hs_")
    assert json.loads(ok("invite", "--lead", "Ada", "--json"))["role"] == "lead"
    engine.dispose()


def test_a_study_without_answers_says_so(database: str, tmp_path: Path) -> None:
    ok("create", "--name", "S", "--run", "1", "--heads-wanted", "5", "--controls", "0.2", *PLAIN, "--launch")
    plain = ok("agreement", "1", "--draws", "20")
    assert "Real minus swapped descriptions: no answers yet" in plain
    assert ".svg" not in plain
    assert "real-against-swapped.svg" in ok("agreement", "1", "--draws", "20", "--report", str(tmp_path / "r"))
    assert json.loads(ok("close", "1", "--json")) == {"study": 1, "state": "closed"}
    ok("create", "--name", "T", "--run", "1", "--heads-wanted", "5", "--controls", "0", "--launch")
    assert "Real minus swapped descriptions: no control items" in ok("agreement", "2", "--draws", "20")
    for options in ((), ("--dry-run",)):
        assert ok("approve", "1", *options).startswith("nothing to add: no description of study 1")
    assert json.loads(ok("approve", "1", "--dry-run", "--json")) == []


def test_a_study_of_each_operation(database: str, tmp_path: Path) -> None:
    options = ("--run", "1", "--heads-wanted", "5", "--each-operation", *PLAIN, "--launch")
    ok("create", "--name", "S", *options)
    (status,) = json.loads(ok("status", "--json"))
    assert status["slots"] == (10 + 2) * 3  # two operations of each head, and a fifth as many controls
    report = json.loads(ok("agreement", "1", "--draws", "20", "--json"))
    assert (report["n_descriptions"], report["n_heads"], report["n_controls"]) == (10, 5, 2)
    assert "10 descriptions of 5 heads and 2 control items" in ok("agreement", "1", "--draws", "20")


def test_a_study_of_heads_from_another_tool(database: str, tmp_path: Path) -> None:
    rows = [{"token": f"a{i}", "targets": ["b", "c"]} for i in range(3)]
    heads = [
        {"model": "m", "layer": 0, "head": h, "rows": rows, "description": f"Maps to thing {h}."} for h in range(3)
    ]
    file = tmp_path / "heads.jsonl"
    file.write_text("\n".join(json.dumps(h) for h in heads))
    assert "launched" in ok("create", "--name", "S", "--heads", str(file), "--launch")
    told = refused("create", "--name", "S", "--heads", str(file), "--each-operation")
    assert "no operations besides their description; expected --run NUMBER" in told
    file.write_text("{}\n")
    assert "line 1 is not a described head" in refused("create", "--name", "S", "--heads", str(file))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "--name", "S"), "--run NUMBER or --heads FILE"),
        (("create", "--name", "S", "--run", "9"), "no such run: got 9"),
        (("create", "--name", "S", "--run", "1", "--raters", "0"), "between 1 and 50"),
        (("create", "--name", "S", "--run", "1"), "that descriptions were tested on (--no-tested-rows)"),
        (("launch", "7"), "no such study: got 7"),
        (("close", "7"), "no such study"),
        (("status", "7"), "no such study"),
        (("invite",), "--study NUMBER"),
        (("invite", "--study", "7"), "no such study"),
        (("token", "--name", "x", "--scope", "root"), "unknown scope: got root"),
        (("agreement", "7"), "no such study"),
        (("status", "--database", "mysql://x/y"), "not a database address"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(database: str, arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments)


def test_missing_files_and_unknown_judges(database: str) -> None:
    result = runner.invoke(rate_heads, ["import", "/nowhere/x.jsonl"])
    assert result.exit_code == 1
    assert "No such file" in result.output
    ok("create", "--name", "S", "--run", "1", "--heads-wanted", "2", *PLAIN, "--launch")
    assert "no such judge: got tarot" in refused("judge", "1", "--kind", "tarot")


def test_a_file_of_heads_that_is_no_text_is_a_mistake_in_one_line(database: str, tmp_path: Path) -> None:
    file = tmp_path / "heads.jsonl"
    file.write_bytes(b"\xff\xfe\x00")
    assert "line 1 is not a described head" in refused("create", "--name", "S", "--heads", str(file))


def test_serving_wide_without_accounts_is_refused(database: str) -> None:
    for app, command in ((rate_heads, ["serve"]), (serve_heads, [])):
        result = runner.invoke(app, [*command, "--host", "0.0.0.0"])
        assert result.exit_code == 2
        assert "--accounts" in result.output
        assert "http://" not in result.output


def test_help_is_instant() -> None:
    heavy = "('torch', 'sqlalchemy', 'fastapi', 'numpy')"
    code = f"import sys, eval.commands.rate_heads; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert shutil.which("rate-heads", path=str(Path(sys.executable).parent))
