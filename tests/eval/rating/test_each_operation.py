"""Studies that ask about each operation of a head: their items, controls, reports, exports, and studies of before."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from agent.checks.new_pairs import PlannedTest, finish_test, with_tested_rows
from agent.checks.pair_scorer import PairScorer
from agent.results.outcomes import HeadOperation, TestResult
from agent.results.reports import HeadReport
from agent.runs.database import writing
from agent.runs.stored import StoredHead, stored_heads
from eval.rating.exchange.export import export
from eval.rating.exchange.imports import import_study
from eval.rating.heads.described import by_operation, described_heads
from eval.rating.items import control_items, real_items
from eval.rating.report.report import disagreements, study_report
from eval.rating.report.text import as_markdown
from eval.rating.slots import next_screen
from eval.rating.store import open_studies
from eval.rating.studies import StudySettings, create_study, get_study, launch
from eval.rating.swapped_rows import SwappedRows
from eval.rating.tables import Item
from eval.rating.verdicts import approved_descriptions
from maps_engine.engine import MapsEngine
from maps_engine.results import HeadPart, MappingRow, ScoredToken
from tests.support.believable import Believable
from tests.support.eval.named_runs import SETTINGS, named, step_pairs, stored_run, wordy_bench
from tests.support.eval.studies import YES, Answer, Screen, items_of, launched_from_run, rater, simple_heads, work

EACH = StudySettings(each_operation=True, practice=0, attention=0, control_share=0.0, stratify=False)
PLURALS = 'plural nouns to "are", "were"'


def part_of(*words: str) -> HeadPart:
    rows = tuple(MappingRow(f" {word}", 7, 1.0, (ScoredToken(f" {word}s", 8, 1.0),)) for word in words)
    return HeadPart(0.2, 0.4, len(words), rows[0].targets, rows)


@pytest.fixture
def several(studies: Engine, tmp_path: Path) -> tuple[Engine, int, MapsEngine]:
    """Three heads of a tiny model with two operations each, and one whose description no test supports.

    The recorded operation of a head has no part, the other has the head's second and, joined to it, its third part.
    """
    bench = wordy_bench(tmp_path)
    maps = MapsEngine(bench.checkpoint, SETTINGS)
    scorer = PairScorer(maps)

    def tested(report: HeadReport, first: int) -> TestResult:
        plan = PlannedTest(report.description, report.mapping, step_pairs(bench.checkpoint, first=first, n=10))
        return replace(finish_test(plan, scorer), verdict="supported")

    def report(layer: int, head: int, first: int) -> HeadReport:
        one = named(bench.checkpoint, layer, head, f"operation {first}")
        own, other = tested(one, first), tested(one, first + 11)
        parts = (part_of("first"), part_of("second", f"second{first}"), part_of("third"))
        operations = (
            HeadOperation(one.description.operation, one.description.observed_pattern, "said", own),
            HeadOperation(f"thing {first}", f"Does thing {first}.", "part", other, 1, 0.3, (2,), "choose:x"),
        )
        return replace(one, mapping=replace(one.mapping, parts=parts), test=own, operations=operations)

    weak = named(bench.checkpoint, 1, 3, "operation of no test", verdict="weak")
    reports = [report(0, 1, 1), report(1, 0, 23), report(1, 2, 45), weak]
    return studies, stored_run(studies, bench.checkpoint, with_tested_rows(reports, scorer)), maps


def stored_by_place(engine: Engine, run: int) -> dict[tuple[int, int], StoredHead]:
    return {(one.layer, one.head): one for one in stored_heads(engine, run)}


def place_of(item: Item) -> tuple[int, int]:
    return item.origin["layer"], item.origin["head"]


def shown(rows: tuple[MappingRow, ...], n_targets: int) -> list[dict[str, object]]:
    return [{"source": row.token, "targets": [one.token for one in row.targets[:n_targets]]} for row in rows]


def test_each_operation_is_an_item_with_its_own_rows_and_tested_words(several) -> None:
    engine, run, _ = several
    stored = stored_by_place(engine, run)
    study = create_study(
        engine, name="S", heads=described_heads(engine, run), settings=EACH, reread=SwappedRows(engine, run)
    )
    items = {(place_of(i), i.origin["operation"]): i for i in items_of(engine, study).values()}
    wanted = {(place, one.operation) for place, head in stored.items() for one in head.operations}
    assert set(items) == wanted | {((1, 3), "operation of no test")}
    for (place, operation), item in items.items():
        head = stored[place]
        if operation == "operation of no test":
            assert item.content == {"rows": shown(head.rows, 5), "description": description_of(head)}
            assert "part" not in item.origin
            continue
        (one,) = [each for each in head.operations if each.operation == operation]
        recorded = operation == head.operation
        rows = head.rows if recorded else (*head.parts[1].rows, *head.parts[2].rows)
        assert item.content["rows"] == shown(rows, 5)
        assert item.content["tested_rows"] == shown(tuple(each.row for each in one.test.tested_rows), 10)
        sentence = head.input_strings if recorded else ""
        assert item.content["description"] == {
            "input_strings": sentence,
            "observed_pattern": one.observed_pattern,
        }
        about = (item.origin["part"], item.origin["claim"], item.origin["category"], item.origin["describer"])
        assert about == ((None, "said", "other", "made") if recorded else (1, "part", "other", "choose:x"))
    assert len({str(i.content["tested_rows"]) for i in items.values() if "tested_rows" in i.content}) == 6


def description_of(head: StoredHead) -> dict[str, str]:
    return {"input_strings": head.input_strings, "observed_pattern": head.observed_pattern}


def test_a_head_that_hosts_several_swaps_shows_the_words_of_each(several) -> None:
    engine, run, maps = several
    settings = replace(EACH, control_share=1.0)
    heads = described_heads(engine, run)
    study = create_study(engine, name="S", heads=heads, settings=settings, reread=SwappedRows(engine, run))
    controls = [i for i in items_of(engine, study).values() if i.kind == "control"]
    assert Counter(place_of(i) for i in controls) == {(0, 1): 2, (1, 0): 2, (1, 2): 2, (1, 3): 1}
    by_sentence = {one.description["observed_pattern"]: one for one in by_operation(heads)}
    for item in controls:
        donor = by_sentence[item.content["description"]["observed_pattern"]]
        assert item.origin["swapped_from"] == {"layer": donor.layer, "head": donor.origin["head"]}
        place = place_of(item)
        read = maps.at(maps.truest).rows_of_heads({place: donor.tested_ids}, targets=10)[place]
        assert item.content.get("tested_rows", []) == shown(read, 10)


def test_a_head_does_what_the_other_names_of_its_operations_say(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    heads = [head for head in described_heads(engine, facts.run_id) if head.operations]
    assert heads
    assert all({PLURALS, "plural nouns to verb forms"} <= head.does for head in heads)


def test_no_swapped_description_is_one_of_the_head_itself(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    study = launched_from_run(engine, facts.run_id, n_heads=10, each_operation=True, control_share=0.5)
    items = items_of(engine, study).values()
    assert Counter(i.kind for i in items if i.kind in ("real", "control")) == {"real": 20, "control": 10}
    stored = stored_by_place(engine, facts.run_id)
    chosen = {place_of(i) for i in items if i.kind == "real"}
    hosts = [place_of(i) for i in items if i.kind == "control"]
    assert len(set(hosts)) == 10, "every head outside the study hosts one before any hosts another"
    assert not set(hosts) & chosen
    for item in items:
        if item.kind == "control":
            host = stored[place_of(item)]
            donor = item.origin["swapped_from"]
            assert (donor["layer"], donor["head"]) != place_of(item)
            said = item.content["description"]["observed_pattern"]
            assert said not in {one.observed_pattern for one in host.operations}
            assert item.content["rows"] == shown(host.parts[item.origin["part"]].rows, 5)


def test_a_description_is_not_swapped_to_a_head_that_does_the_same_besides() -> None:
    first, second = simple_heads(2)
    both = [replace(first, does=frozenset({"operation 1"})), second]
    (only,) = control_items(both, both, share=1.0, rng=random.Random(0))
    assert only.origin["operation"] == "operation 1"
    assert only.content["description"] == first.description


def test_heads_are_chosen_first_and_the_same_seed_makes_the_same_study(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    heads = described_heads(engine, facts.run_id)

    def items(*, each: bool, seed: int = 3) -> list[Item]:
        settings = replace(EACH, n_heads=7, stratify=True, each_operation=each)
        study = create_study(engine, name="S", heads=heads, seed=seed, settings=settings)
        return list(items_of(engine, study).values())

    assert {place_of(i) for i in items(each=True)} == {place_of(i) for i in items(each=False)}
    assert [len(items(each=each)) for each in (True, False)] == [14, 7]
    assert [i.content_hash for i in items(each=True)] == [i.content_hash for i in items(each=True)]
    assert real_items(by_operation(simple_heads(3)), tested=True) == real_items(simple_heads(3), tested=True)


def test_the_report_counts_descriptions_and_heads_apart(filled: tuple[Engine, Believable], tmp_path: Path) -> None:
    engine, facts = filled
    study = launched_from_run(engine, facts.run_id, k=2, n_heads=5, each_operation=True, practice=0, attention=0)
    items = items_of(engine, study)

    def rule(screen: Screen, n: int) -> Answer:
        item = items[screen.public_id]
        if item.kind == "control" or (item.origin["operation"] == PLURALS and n):
            return Answer("yes", "no")
        return YES

    for n in range(2):
        work(engine, rater(engine, study), lambda screen, n=n: rule(screen, n))
    report = study_report(engine, study, draws=20)
    assert (report.n_descriptions, report.n_heads, report.n_controls) == (10, 5, 2)
    assert (report.overall.plausible.items.n, report.overall.plausible.ties) == (5, 5)
    assert report.overall.plausible.ratings.n == 20
    fields = {row.group: row.plausible.ratings.n for row in report.by_category}
    assert fields["word fields"] == 10
    assert sum(fields.values()) == 20
    found = as_markdown(report)
    assert "- 10 descriptions of 5 heads and 2 control items (swapped descriptions), 2 raters each" in found
    assert "Several descriptions of one head are several items." in found
    split = disagreements(engine, study)
    assert {items[one.public_id].origin["operation"] for one in split} == {PLURALS}
    assert len(split) == 5
    approved = approved_descriptions(engine, study)
    assert len(approved) == 5
    assert PLURALS not in {one.operation.name for one in approved}

    rows = list(csv.DictReader(io.StringIO(export(engine, study, "csv"))))
    assert {row["kind"] for row in rows} == {"real", "control"}, "of the item"
    real = [row for row in rows if row["kind"] == "real"]
    assert {(row["operation"] == PLURALS, row["part"], row["claim"]) for row in real} == {
        (False, "0", "pairs"),
        (True, "1", "part"),
    }
    assert {row["input_strings"] for row in real if row["operation"] == PLURALS} == {""}

    for fmt in ("jsonl", "label-studio"):
        other = open_studies(str(tmp_path / f"{fmt}.sqlite"))
        text = export(engine, study, fmt)
        assert '"each_operation": true' in text
        copied, _ = import_study(other, text)
        assert study_report(other, copied, draws=20).overall == report.overall
        assert study_report(other, copied, draws=20).n_heads == 5
        other.dispose()


def test_studies_made_before_there_was_the_setting_are_read(filled: tuple[Engine, Believable], tmp_path: Path) -> None:
    engine, facts = filled
    study = create_study(engine, name="Old", heads=described_heads(engine, facts.run_id), k=1, settings=StudySettings())
    with writing(engine) as session:
        found = get_study(session, study)
        found.settings = {name: value for name, value in found.settings.items() if name != "each_operation"}
    launch(engine, study)
    person = rater(engine, study)
    assert next_screen(engine, person).state == "item"
    work(engine, person, limit=4)
    assert study_report(engine, study, draws=5).n_descriptions == len(described_heads(engine, facts.run_id))
    text = export(engine, study, "jsonl")
    assert "each_operation" not in json.loads(text.splitlines()[0])["study"]["settings"]
    other = open_studies(str(tmp_path / "other.sqlite"))
    assert import_study(other, text)[1] == 4
    other.dispose()
