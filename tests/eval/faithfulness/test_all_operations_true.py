"""All that heads are said to do against the running model, and heads that do a known operation and are not said to."""

from __future__ import annotations

from dataclasses import replace

import torch

from agent.results.descriptions import HeadDescription
from agent.results.outcomes import HeadOperation
from agent.results.reports import NamedPart
from eval.faithfulness.descriptions.found_heads import found_heads
from eval.faithfulness.descriptions.named_heads import NamedRun, named_run
from eval.faithfulness.descriptions.summary import Measured, NameCheck, NamesTable
from eval.faithfulness.descriptions.true_names import check_names
from eval.faithfulness.report.reading import read_descriptions
from eval.faithfulness.report.text import table_text
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import HeadPart, MappingRow
from tests.support.eval.named_runs import named, step_pairs, stored_run, word_ids


def test_all_that_a_head_does_is_checked_beside_its_name(bench, engine):
    checkpoint = bench.checkpoint
    report = named(checkpoint, 1, 2, "one word on", judging=step_pairs(checkpoint))
    first, sixth = (word_ids(checkpoint)[place] for place in (0, 5))
    part = HeadPart(0.3, 0.5, 30, (), (MappingRow(checkpoint.vocabulary.text(sixth), sixth, 1.0, ()),))
    said = (
        HeadOperation("one word on", "", "said", report.test),
        HeadOperation("Exact  copying", "", "part", report.test, 0, also=("word to itself",)),
        HeadOperation("something about rivers", "", "said", report.test),
    )
    mapping = replace(report.mapping, parts=(part,))
    stored_run(engine, checkpoint, [replace(report, mapping=mapping, operations=said)])
    run = named_run(engine, None, checkpoint, load_relations(), max_pairs=200, each_operation=True)
    assert [(one.operation, one.recorded) for one in run.heads] == [
        ("one word on", True),
        ("Exact  copying", False),
        ("something about rivers", False),
    ]
    assert len(named_run(engine, None, checkpoint, load_relations(), max_pairs=60).heads) == 1
    copied = run.heads[1].pairs.sources
    assert first in copied  # a row of the head, but not of the part that this is said of
    assert sixth not in copied
    assert run.heads[2].pairs is None
    assert run.said == {(1, 2): {"one word on", "exact copying", "word to itself", "something about rivers"}}
    table = check_names(bench, engine, None, max_pairs=60, each_operation=True).to_json()
    assert (table["named"], table["tested"], table["each_operation"]["heads"]) == (1, 1, 2)
    assert [one["recorded"] for one in table["heads"]] == [True, False, False]
    assert table["without_shuffle"] == 0  # exact copying has none, but it is not the name
    assert table["all"] == check_names(bench, engine, None, max_pairs=60).to_json()["all"]
    assert "| every operation (its number in place of heads) | 2 |" in table_text("descriptions", table)
    assert "Of all 2 operations that could be run" in " ".join(read_descriptions(table))


def test_what_a_language_model_said_of_a_part_is_checked_by_the_pairs_that_were_kept_for_it(bench, engine):
    checkpoint = bench.checkpoint
    report = named(checkpoint, 1, 2, "one word on", judging=step_pairs(checkpoint))
    kept, words = step_pairs(checkpoint, first=3, n=14, step=2), "two words on"
    of_part = HeadDescription("ok", "made", "", "Does so.", words, part=0)
    row = MappingRow(checkpoint.vocabulary.text(kept.sources[0]), kept.sources[0], 1.0, ())
    part = HeadPart(0.3, 0.5, 30, (), (row,))
    operations = (
        HeadOperation("one word on", "", "said", report.test),
        HeadOperation(words, "", "said", report.test, 0),
        HeadOperation(words, "", "said", report.test, None),
    )
    trace = replace(report.trace, named_parts=(NamedPart(of_part, kept, (row.token_id,)),))
    whole = replace(report, mapping=replace(report.mapping, parts=(part,)), operations=operations, trace=trace)
    stored_run(engine, checkpoint, [whole])
    run = named_run(engine, None, checkpoint, load_relations(), max_pairs=60, each_operation=True)
    assert run.heads[1].pairs.sources == kept.sources[1:]  # without the part's shown row
    assert run.heads[2].why == "no pairs can be made from this label alone"


def test_heads_that_do_an_operation_and_are_not_said_to_are_counted():
    does = torch.zeros(2, 3, dtype=torch.bool)
    does[0, 0] = does[0, 1] = does[1, 2] = True
    other = torch.zeros(2, 3, dtype=torch.bool)
    other[0, 1] = True
    said = {(0, 0): frozenset({"copying"}), (0, 1): frozenset({"copying"}), (1, 2): frozenset({"one word on"})}
    run = NamedRun(1, (), {}, said | {(1, 0): frozenset({"country to capital"})})
    found = found_heads(run, {"copying": does, "country to capital": other, "one word on": torch.ones(2, 3).bool()})
    assert found["operations"] == 2  # free text is none
    assert (found["cases"]["value"], found["cases"]["n"]) == (2 / 4, 4)
    assert found["missed"] == [
        {"layer": 0, "head": 1, "operation": "country to capital"},
        {"layer": 1, "head": 2, "operation": "copying"},
    ]
    assert (found["heads"]["value"], found["heads"]["n"]) == (2 / 3, 3)
    outcome = Measured(0.3, 99.0, 0.01, 0.1, True, 0.05)
    row = NameCheck(0, 0, "copying", "supported", 20, 1, outcome, outcome)
    table = NamesTable(1, 2, 6, {"ok": 4}, (row,), found={"forced": found, "natural": found})
    text = " ".join(read_descriptions(table.to_json()))
    assert "3 heads do one of the 2 known operations that were run" in text
    assert "Of all 4 cases of a head and an operation that it does, 0.50 [0.15, 0.85] are said." in text


def test_heads_that_do_an_operation_are_those_of_the_rule(bench, engine):
    checkpoint = bench.checkpoint
    shape = checkpoint.weights.shape
    places = [(layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads)]
    pairs = step_pairs(checkpoint, n=12, k=60)  # among so many targets some heads have it
    run_of = {place: named(checkpoint, *place, "copying", judging=pairs) for place in places}
    stored_run(engine, checkpoint, list(run_of.values()))
    table = check_names(bench, engine, None, max_pairs=60)
    does = {(row.layer, row.head) for row in table.rows if row.forced.true}
    assert 0 < len(does) < len(places)
    found = table.to_json()["found"]["forced"]
    assert (found["operations"], found["cases"]["n"], found["missed"]) == (1, len(does), [])
    run_of |= {place: named(checkpoint, *place, "something about rivers") for place in does}
    stored_run(engine, checkpoint, list(run_of.values()), describer="other")
    found = check_names(bench, engine, None, max_pairs=60).to_json()["found"]["forced"]
    assert {(one["layer"], one["head"]) for one in found["missed"]} == does
    assert found["heads"]["value"] == 0.0
