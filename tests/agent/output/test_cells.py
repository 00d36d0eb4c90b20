"""Cells that a spreadsheet would run as formulas, by the one guard and through every writer of CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from agent.output.cells import safe_cell
from agent.output.relation_files import write_csv
from agent.output.run_files import export_run
from agent.runs.database import writing
from eval.rating.answers import FinalRating
from eval.rating.exchange.export import as_csv
from eval.scoring.results import HeadScore, Outcome
from eval.scoring.run_request import scores_csv
from tests.support.believable import Believable
from tests.support.record_fixtures import *  # noqa: F403
from tests.support.relation_tables import made_up_scores

FORMULAS = ("=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", " =1+1", "  @x", " \tx", "\u00a0=1", "\n =1", " \r-1")


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_are_texts(formula: str) -> None:
    assert safe_cell(formula) == f"'{formula}"


@pytest.mark.parametrize("value", ["plain", "", " ", " word", None, 0.5, -1.5, 3, True, "a=b", "2-1", "'=1"])
def test_other_cells_stay(value: object) -> None:
    assert safe_cell(value) == value


def test_nul_is_shown_in_cells() -> None:
    assert safe_cell("a\x00b") == "a␀b"
    assert safe_cell("\x00=1") == "␀=1"


def cells(table: str) -> Iterable[str]:
    return [cell for row in csv.reader(io.StringIO(table, newline="")) for cell in row]


def of_a_run(formula: str, engine: Engine, facts: Believable, folder: Path) -> str:
    with writing(engine) as session:
        session.execute(text("UPDATE descriptions SET reasoning = :formula"), {"formula": formula})
    export_run(engine, facts.run_id, folder / "a.csv")
    return (folder / "a.csv").read_bytes().decode("utf-8-sig")


def of_relations(formula: str, _engine: Engine, _facts: Believable, folder: Path) -> str:
    write_csv(replace(made_up_scores(n=2), model=formula), folder / "a.csv")
    return (folder / "a.csv").read_bytes().decode("utf-8")


def of_ratings(formula: str, *_: object) -> str:
    content = {"rows": [], "description": {"input_strings": "", "observed_pattern": ""}}
    answer = ("yes", "no", formula, None, True, 1, 0.0, 0.0)
    return as_csv([FinalRating("item", 0, "real", content, {}, "R1", None, *answer)])


def of_scores(formula: str, *_: object) -> str:
    scores = [HeadScore(0, 0, "detection", formula, Outcome(0.5, 4), None, None)]
    return scores_csv(scores, "lexical").decode("utf-8-sig")


@pytest.mark.parametrize("write", [of_a_run, of_relations, of_ratings, of_scores])
@pytest.mark.parametrize("formula", FORMULAS)
def test_no_table_holds_a_formula(
    write: Callable[[str, Engine, Believable, Path], str],
    formula: str,
    believable: tuple[Engine, Believable],
    tmp_path: Path,
) -> None:
    found = cells(write(formula, *believable, tmp_path))
    assert f"'{formula}" in found
    assert formula not in found
