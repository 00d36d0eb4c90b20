"""Exports read back into a new database, the report of a study, judges and approval."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from sqlalchemy import Engine

from agent.runs.database import reading
from eval.errors import BadAnswer, BadImport, BadStudy, NotFound
from eval.judges.opening import open_judge
from eval.judges.protocol import Assessment
from eval.rating.answers import FinalRating, answered, final_ratings
from eval.rating.exchange.export import export
from eval.rating.exchange.imports import import_study
from eval.rating.judges import answer_of, run_judge
from eval.rating.people import invite
from eval.rating.ratings import Answer, save
from eval.rating.report.report import disagreements, study_report
from eval.rating.report.text import as_html, as_markdown, figures, write_report
from eval.rating.slots import Screen, next_screen
from eval.rating.store import open_studies
from eval.rating.studies import get_study, verify
from eval.rating.verdicts import adjudicate, approved_descriptions
from tests.support.believable import Believable
from tests.support.eval.studies import items_of, launched, launched_from_run, rater, work


@pytest.fixture
def rated(filled: tuple[Engine, Believable]) -> tuple[Engine, int]:
    """A study of 10 heads and 3 controls rated by 4 people (k = 2), with an edit, a skip and hostile notes."""
    engine, facts = filled
    study = launched_from_run(engine, facts.run_id, n_heads=10, control_share=0.3, practice=1, attention=1)
    items = items_of(engine, study)
    for number in range(4):
        person = rater(engine, study)

        def rule(screen: Screen, number: int = number) -> Answer:
            if items[screen.public_id].kind == "control":
                return Answer("yes", "no", "=1+1")
            odd = items[screen.public_id].position % 4 == number
            return Answer("yes", "partly" if odd else "yes", "<b>\u202e\x00" if odd else "")

        seen = work(engine, person, rule)
        if number == 0:
            save(engine, person, seen[-1], Answer("no", "cannot", "changed my mind"))
            save(engine, person, seen[-2], Answer(skip_reason="=cmd()"))
    return engine, study


def comparable(ratings: list[FinalRating]) -> list[FinalRating]:
    return sorted(ratings, key=lambda r: (r.position, r.rater))


@pytest.mark.parametrize("fmt", ["jsonl", "label-studio"])
def test_a_study_makes_the_round_trip_into_a_new_database(rated: tuple[Engine, int], fmt: str, tmp_path: Path) -> None:
    engine, study = rated
    text = export(engine, study, fmt)
    other = open_studies(str(tmp_path / "other.sqlite"))
    copied, added = import_study(other, text)
    before = comparable(final_ratings(engine, study, history=True))
    after = comparable(final_ratings(other, copied, history=True))
    assert before == after
    assert added == len(before) > 20
    assert any(len(r.history) == 2 for r in after)
    with reading(other) as session:
        verify(session, get_study(session, copied))
    assert import_study(other, text) == (copied, 0), "a second import adds nothing"
    assert study_report(other, copied, draws=20).overall == study_report(engine, study, draws=20).overall
    other.dispose()


def test_answers_given_in_label_studio_are_imported(rated: tuple[Engine, int]) -> None:
    engine, study = rated
    tasks = json.loads(export(engine, study, "label-studio"))
    for task in tasks:
        choice = {"from_name": "plausible", "to_name": "rows", "type": "choices", "value": {"choices": ["no"]}}
        first = choice | {"from_name": "pattern", "value": {"choices": ["yes"]}}
        note = {"from_name": "note", "type": "textarea", "to_name": "rows", "value": {"text": ["seen"]}}
        task["annotations"] = [
            {"completed_by": 7, "created_at": "2026-05-01T10:00:00Z", "result": [first, choice, note]}
        ]
    assert import_study(engine, json.dumps(tasks)) == (study, len(tasks))
    mine = [r for r in final_ratings(engine, study) if r.rater == "7"]
    assert {(r.pattern, r.plausible, r.note) for r in mine} == {("yes", "no", "seen")}


def test_the_csv_of_a_study_is_safe_in_spreadsheets(rated: tuple[Engine, int]) -> None:
    engine, study = rated
    rows = list(csv.DictReader(io.StringIO(export(engine, study, "csv"))))
    assert len(rows) == len(final_ratings(engine, study))
    assert {row["note"] for row in rows} >= {"'=1+1", "changed my mind"}
    assert {row["skip_reason"] for row in rows} == {"", "'=cmd()"}
    assert not [cell for row in rows for cell in row.values() if cell[:1] in ("=", "+", "-", "@")]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"study": 1}', "[1]", '[{"data": {}}]', '{"study": {"name": "x"}}', "\x00"],
)
def test_files_that_are_no_export_are_refused(text: str, tmp_path: Path) -> None:
    engine = open_studies(str(tmp_path / "s.sqlite"))
    with pytest.raises(BadImport):
        import_study(engine, text)
    engine.dispose()


def test_import_checks_answers_hash_and_items(rated: tuple[Engine, int], tmp_path: Path) -> None:
    engine, study = rated
    text = export(engine, study, "jsonl")
    other = open_studies(str(tmp_path / "other.sqlite"))
    with pytest.raises(BadImport, match="content hash"):
        import_study(other, text.replace('"position": 3', '"position": 333'))
    with pytest.raises(BadImport, match="answer of R"):
        import_study(other, text.replace('"plausible": "yes"', '"plausible": "sure"'))
    with pytest.raises(BadImport, match="unknown format"):
        export(engine, study, "xml")
    with pytest.raises(BadImport, match="only part of these"):
        import_study(engine, text + text.splitlines()[1].replace('"item": "', '"item": "zz') + "\n")
    other.dispose()


def test_hand_made_items_are_in_no_rate(rated: tuple[Engine, int]) -> None:
    engine, study = rated
    ratings = final_ratings(engine, study)
    assert {r.kind for r in ratings} == {"real", "control", "practice", "attention"}
    report = study_report(engine, study, draws=50)
    plausible = [r for r in ratings if r.kind == "real" and r.usable and r.plausible != "cannot"]
    assert report.overall.plausible.ratings.n == len(plausible)
    assert report.control.plausible.items.value == 0.0
    assert (report.skipped, report.cannot) == (1, 1)
    share = sum(r.plausible == "yes" for r in plausible) / len(plausible)
    assert report.gap.value == pytest.approx(share)
    assert report.coverage is not None
    assert sum(row.plausible.ratings.n for row in report.by_layer) == len(plausible)


def test_the_report_reads_well_and_is_inert(rated: tuple[Engine, int], tmp_path: Path) -> None:
    engine, study = rated
    run_judge(engine, study, open_judge("lexical"), kind="lexical")
    report = study_report(engine, study, draws=50)
    text = as_markdown(report)
    for part in ("## By layer", "alpha", "AC1", "kappa", "Real minus swapped", "## Judges", "lexical", "n = "):
        assert part in text
    html = as_html(report)
    assert html.count('<img class="figure" src="data:image/svg+xml;base64,') == 2
    assert "<script" not in html
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", html)
    assert {one.file_name for one in figures(report)} == {"by-layer.svg", "real-against-swapped.svg"}
    assert sorted(p.name for p in write_report(report, tmp_path / "out")) == sorted(
        ["report.md", "report.html", "by-layer.svg", "real-against-swapped.svg"]
    )


def test_a_study_without_answers_has_a_report_too(tmp_path: Path) -> None:
    engine = open_studies(str(tmp_path / "s.sqlite"))
    report = study_report(engine, launched(engine), draws=5)
    assert report.agreement == {"plausible": None, "pattern": None}
    assert "no heads" in as_markdown(report)
    assert 'src="data:image/svg+xml;base64,' in as_html(report)
    engine.dispose()


class SaysNo:
    """A judge that sees a pattern in everything and finds no description plausible."""

    def assess(self, said, rows, tested=()):
        return Assessment("yes", "no")


def test_judges_are_marked_and_never_mixed(rated: tuple[Engine, int]) -> None:
    engine, study = rated
    before = study_report(engine, study, draws=20)
    n = run_judge(engine, study, SaysNo(), kind="llm: stub")
    assert n == 13
    assert run_judge(engine, study, SaysNo(), kind="llm: stub") == 0
    after = study_report(engine, study, draws=20)
    assert after.overall == before.overall
    assert after.agreement == before.agreement
    (judge,) = after.judges
    assert (judge.judge, judge.plausible.items.value) == ("llm: stub", 0.0)
    people = answered(final_ratings(engine, study), "plausible")
    assert not [a for a in people if a.rater.startswith("judge")]
    person = invite(engine, study_id=study)[0]
    with pytest.raises(BadStudy, match="belongs to a person"):
        run_judge(engine, study, open_judge("lexical"), kind="x", name=person)


@pytest.mark.parametrize(
    ("pairs", "description", "expected"),
    [
        ("Anna:Anna Tom:Tom Bob:Bob", "Copies the name.", ("yes", "yes")),
        ("apple:a dog:d cat:c", "Maps to the first letter.", ("yes", "yes")),
        ("apple:a dog:d cat:c", "Names of rivers.", ("yes", "no")),
        ("walk:walked jump:jumped", "Past tense.", ("yes", "yes")),
        ("quick:umb lex:ordin", "Speaks of the quick.", ("no", "partly")),
        ("quick:umb lex:ordin", "Capital cities.", ("no", "cannot")),
        ("", "Anything.", ("no", "cannot")),
    ],
)
def test_the_lexical_judge(pairs: str, description: str, expected: tuple[str, str]) -> None:
    rows = [{"source": " " + p.split(":")[0], "targets": [" " + p.split(":")[1]]} for p in pairs.split()]
    answer = answer_of(open_judge("lexical"), {"rows": rows, "description": {"observed_pattern": description}})
    assert (answer.pattern, answer.plausible) == expected


def test_disagreements_verdicts_and_approval(rated: tuple[Engine, int]) -> None:
    engine, study = rated
    split = disagreements(engine, study)
    assert split
    assert all(len({a.plausible for a in d.answers}) > 1 for d in split)
    with pytest.raises(BadAnswer, match="unknown verdict"):
        adjudicate(engine, study, split[0].public_id, verdict="maybe", note="", by="lead")
    with pytest.raises(NotFound, match="no such item"):
        adjudicate(engine, study, "nope", verdict="yes", note="", by="lead")
    approved = {str(a.origin) for a in approved_descriptions(engine, study)}
    items = items_of(engine, study)
    for d in split:
        adjudicate(engine, study, d.public_id, verdict="no", note="first", by="lead")
        adjudicate(engine, study, d.public_id, verdict="yes", note="looked again", by="lead")
        approved.add(str(items[d.public_id].origin))
    got = approved_descriptions(engine, study)
    assert {str(a.origin) for a in got} == approved
    assert all(a.operation.name and a.operation.examples and a.operation.description for a in got)
    assert disagreements(engine, study)[0].verdict == "yes"


def test_a_study_run_to_its_end_by_scripted_raters(tmp_path: Path) -> None:
    engine = open_studies(str(tmp_path / "s.sqlite"))
    study = launched(engine, 12, k=3, practice=2, attention=1, control_share=0.25)
    for _ in range(3):
        person = rater(engine, study)
        work(engine, person, lambda s: Answer("yes", "yes" if "1" in s.public_id else "partly"))
        assert next_screen(engine, person).state == "finished"
    report = study_report(engine, study, draws=20)
    found = report.agreement["plausible"]
    assert found is not None
    assert found.percent.value == 1.0
    assert found.n_ratings == 36
    engine.dispose()
