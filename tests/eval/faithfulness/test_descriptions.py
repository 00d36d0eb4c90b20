"""Names of a run against the running model: the plain computation, the rule, sums, resuming, refusals, the command."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from agent.checks.claims import MAX_PAIRS, choosing_pairs
from agent.checks.controls import ROUNDS, mixed_pairs
from agent.checks.new_pairs import MIN_NEW_PAIRS, pair_test, percentiles
from agent.errors import UnknownRun
from agent.results.descriptions import Claim
from eval.commands.check import app
from eval.commands.check_options import NEW_PAIRS
from eval.faithfulness.descriptions.named_heads import named_run
from eval.faithfulness.descriptions.pair_hits import ClaimPairs
from eval.faithfulness.descriptions.summary import Measured, NameCheck, NamesTable
from eval.faithfulness.descriptions.true_names import ABOVE_SHUFFLED, HIGH, check_names, true_of
from eval.faithfulness.report.reading import read_descriptions
from eval.faithfulness.report.text import table_text
from eval.faithfulness.running.pair_choice import SourcePairs
from eval.faithfulness.running.templates import TEMPLATES
from maps_engine.errors import UserMistake
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.thresholds import TAU
from tests.support.eval.faithfulness_models import plain_scores, relation_of, tiny_bench
from tests.support.eval.named_runs import named, step_pairs, stored_run, word_ids, wordy_bench


def plainly(bench, pairs: PairSet, *, with_context: bool, fold: bool = True) -> torch.Tensor:
    """(L, H) phi* with z W_O U written out for every head and prompt."""
    several = SourcePairs(tuple((s,) for s in pairs.sources), pairs.targets, pairs.k)
    parts = (bench.model, bench.checkpoint, bench.maker, several, TEMPLATES)
    return plain_scores(*parts, with_context=with_context, fold=fold)[0]


def without(pairs: PairSet, left_out: set[int]) -> PairSet:
    kept = [(s, t) for s, t in zip(pairs.sources, pairs.targets, strict=True) if s not in left_out]
    return PairSet(tuple(s for s, _ in kept), tuple(t for _, t in kept), pairs.k)


# numbers


def test_scores_equal_the_plain_computation_and_leave_out_what_the_describer_saw(bench, engine):
    checkpoint = bench.checkpoint
    ids = word_ids(checkpoint)
    pairs = step_pairs(checkpoint)
    seen = checkpoint.vocabulary.text(ids[3]).strip()
    stored_run(engine, checkpoint, [named(checkpoint, 1, 2, "one word on", judging=pairs, seen=[seen])])
    row = check_names(bench, engine, None, max_pairs=60).rows[0]
    left_out = {ids[0], ids[3]}  # the shown row's source, and what a tool showed
    assert (row.layer, row.head, row.operation, row.verdict) == (1, 2, "one word on", "supported")
    assert (row.n_pairs, row.k, row.why) == (18, 10, "")
    kept = without(pairs, left_out)
    mixed = without(ClaimPairs.of([kept]).mixed, left_out)
    assert len(mixed.sources) > 18 * (ROUNDS - 1)
    for measured, within in ((row.forced, False), (row.natural, True)):
        phi, null = plainly(bench, kept, with_context=within), plainly(bench, mixed, with_context=within)
        own = phi[1, 2].item()
        others = [x for i, x in enumerate(phi.flatten().tolist()) if i != phi.shape[1] + 2]
        below = sum(x < own for x in others) + 0.5 * sum(x == own for x in others)
        assert measured.score == pytest.approx(own)
        assert measured.percentile == pytest.approx(100 * below / len(others))
        assert measured.others_mean == pytest.approx(sum(others) / len(others))
        assert measured.shuffled == pytest.approx(null[1, 2].item())
        by_hand = own >= TAU and measured.percentile >= HIGH and own - null[1, 2].item() >= ABOVE_SHUFFLED
        assert measured.true == by_hand


def test_heads_of_one_name_are_run_together_each_with_its_own_pairs(bench, engine, tmp_path):
    checkpoint = bench.checkpoint
    sets = [step_pairs(checkpoint, first=first, n=15) for first in (1, 5)]
    reports = [named(checkpoint, 0, head, "One  word on", judging=one) for head, one in enumerate(sets)]
    stored_run(engine, checkpoint, reports)
    table = check_names(bench, engine, None, max_pairs=60)
    assert len(list((tmp_path / "results" / "descriptions-folded").iterdir())) == 1
    for head, (row, pairs) in enumerate(zip(table.rows, sets, strict=True)):
        assert row.forced.score == pytest.approx(plainly(bench, pairs, with_context=False)[0, head].item())
        assert row.natural.score == pytest.approx(plainly(bench, pairs, with_context=True)[0, head].item())


def test_where_all_sources_share_their_targets_there_is_no_shuffled_score(bench, engine):
    ids = word_ids(bench.checkpoint)
    field = PairSet(tuple(ids[1:21]), (tuple(ids[30:36]),) * 20, 10)
    stored_run(engine, bench.checkpoint, [named(bench.checkpoint, 0, 0, "any word to a few", judging=field)])
    table = check_names(bench, engine, None, max_pairs=60)
    assert (table.rows[0].forced.shuffled, table.rows[0].natural.shuffled) == (None, None)
    assert table.to_json()["without_shuffle"] == 1
    assert "Names for which shuffled pairs say nothing: 1." in " ".join(read_descriptions(table.to_json()))


@pytest.mark.parametrize("wide", [4, 1000])
def test_a_claim_of_classes_is_held_against_other_words_however_it_is_counted(bench, engine, monkeypatch, wide):
    monkeypatch.setattr("eval.faithfulness.descriptions.pair_hits.WIDE", wide)
    ids = word_ids(bench.checkpoint)
    members = tuple(ids[20:36])
    field = PairSet(tuple(ids[1:19]), (members,) * 18, 2, others=tuple(ids[36:48]))
    stored_run(engine, bench.checkpoint, [named(bench.checkpoint, 1, 2, "some words to a few", judging=field)])
    row = check_names(bench, engine, None, max_pairs=60).rows[0]
    outside = PairSet(field.others, (members,) * 12, 2)
    for measured, within in ((row.forced, False), (row.natural, True)):
        phi, null = (plainly(bench, one, with_context=within)[1, 2].item() for one in (field, outside))
        assert (measured.score, measured.shuffled) == pytest.approx((phi, null))
    assert row.forced.score > 0


def test_the_plain_projection_is_the_papers_and_lies_beside_the_other(bench, engine, tmp_path, monkeypatch):
    gained = bench.checkpoint.weights.final_norm()
    scaled = replace(gained, gain=torch.linspace(0.1, 3.0, bench.checkpoint.weights.shape.d_model))
    monkeypatch.setattr(type(bench.checkpoint.weights), "final_norm", lambda _: scaled)
    pairs = step_pairs(bench.checkpoint)
    stored_run(engine, bench.checkpoint, [named(bench.checkpoint, 1, 2, "one word on", judging=pairs)])
    kept = without(pairs, {word_ids(bench.checkpoint)[0]})
    found = {}
    for projection in ("plain", "folded"):
        table = check_names(bench, engine, None, max_pairs=60, projection=projection)
        expected = plainly(bench, kept, with_context=False, fold=projection == "folded")
        found[projection] = table.rows[0].forced.others_mean
        others = [x for i, x in enumerate(expected.flatten().tolist()) if i != expected.shape[1] + 2]
        assert table.rows[0].forced.score == pytest.approx(expected[1, 2].item())
        assert found[projection] == pytest.approx(sum(others) / len(others))
        assert len(list((tmp_path / "results" / f"descriptions-{projection}").iterdir())) == 1
        assert table.to_json()["projection"] == projection
    assert found["plain"] != found["folded"]


def test_at_most_so_many_pairs_in_the_order_of_the_test(bench, engine):
    pairs = step_pairs(bench.checkpoint, first=1)
    stored_run(engine, bench.checkpoint, [named(bench.checkpoint, 0, 0, "one word on", judging=pairs)])
    run = named_run(engine, None, bench.checkpoint, (), max_pairs=12)
    assert run.heads[0].pairs == PairSet(pairs.sources[:12], pairs.targets[:12], 10)
    assert NEW_PAIRS == (MIN_NEW_PAIRS, MAX_PAIRS)
    assert ABOVE_SHUFFLED == TAU / 2


def test_pairs_that_chose_a_name_do_not_check_it(bench, engine):
    checkpoint = bench.checkpoint
    words = [checkpoint.vocabulary.text(i)[1:] for i in word_ids(checkpoint)]
    steps = relation_of("word-to-next", tuple((one, (words[i - 1],)) for i, one in enumerate(words[1:], 1)))
    by_rows = named(checkpoint, 0, 0, "word to next")
    claim = Claim("scored", "word-to-next", 9, 12)
    by_scores = named(checkpoint, 0, 1, "word to next")
    by_scores = replace(by_scores, description=replace(by_scores.description, claims=(claim,)))
    stored_run(engine, checkpoint, [by_rows, by_scores])
    whole, judging = (one.pairs for one in named_run(engine, None, checkpoint, [steps], max_pairs=200).heads)
    choosing = choosing_pairs(steps, checkpoint.vocabulary)
    assert set(choosing.sources) <= set(whole.sources)
    assert set(judging.sources) == set(whole.sources) - set(choosing.sources)


def test_pairs_of_a_known_name_are_made_anew_and_free_text_is_not_testable(bench, engine):
    checkpoint = bench.checkpoint
    reports = [
        named(checkpoint, 0, 0, "copying"),
        named(checkpoint, 0, 1, "something about rivers", verdict="not testable"),
        named(checkpoint, 0, 2, "one word on", judging=step_pairs(checkpoint, n=5), verdict="not testable"),
        named(checkpoint, 0, 3, "unclear", status="unclear"),
        named(checkpoint, 1, 0, "", status="failed"),
    ]
    stored_run(engine, checkpoint, reports)
    run = named_run(engine, None, checkpoint, load_relations(), max_pairs=60)
    copying, free, few = run.heads
    assert copying.pairs.k == 1
    assert len(copying.pairs.sources) == 60
    assert word_ids(checkpoint)[0] not in copying.pairs.sources
    assert copying.pairs.targets == tuple((s,) for s in copying.pairs.sources)
    assert (free.pairs, free.why) == (None, "no pairs can be made from this label alone")
    assert few.why == "only 4 new one-token pairs; at least 10 are needed"
    assert run.statuses == {"ok": 3, "unclear": 1, "failed": 1}


# the rule


def test_percentiles_and_rule_are_those_of_the_test_from_weights():
    scores = torch.randint(0, 6, (5, 8), generator=torch.Generator().manual_seed(0)).double() / 20
    checkpoint_like = PairSet((1,) * 20, ((2,),) * 20, 10)
    held, ranks = true_of(scores, None), percentiles(scores)
    for layer in range(5):
        for head in range(8):
            place = type("Place", (), {"layer": layer, "head": head})
            tested = pair_test(scores, checkpoint_like, place)
            assert ranks[layer, head].item() == pytest.approx(tested.percentile)
            assert held[layer, head].item() == (tested.score >= TAU and tested.percentile >= HIGH)
    assert percentiles(torch.zeros(1, 1)).item() == 50.0


def test_a_head_that_writes_the_same_words_whatever_it_reads_has_no_true_name():
    phi = torch.full((4, 5), 0.01, dtype=torch.float64)
    phi[0, 0] = 0.5
    null = torch.zeros_like(phi)
    assert true_of(phi, null)[0, 0]
    assert true_of(phi, null).sum() == 1
    null[0, 0] = 0.45
    assert not true_of(phi, null).any()
    assert true_of(phi, None)[0, 0]  # where shuffling says nothing, it is not asked
    phi[0, 0] = 0.14
    assert not true_of(phi, None).any()


def test_shuffling_says_nothing_where_sources_share_their_targets():
    months = tuple(range(12))
    others = tuple(tuple(m for m in months if m != own) for own in months)
    assert mixed_pairs(PairSet(months, others, 10)).sources == ()
    assert mixed_pairs(PairSet(months, ((50, 51, 52),) * 12, 10)).sources == ()
    mixed = mixed_pairs(PairSet(months, tuple((20 + m,) for m in months), 10))
    assert set(mixed.sources) == set(months)
    assert all(t != (20 + s,) for s, t in zip(mixed.sources, mixed.targets, strict=True))
    articles = PairSet(tuple(range(20)), ((50,),) * 14 + ((51,),) * 6, 1)  # few targets, but to be told apart
    assert mixed_pairs(articles).sources


# sums


def outcome(true: bool, shuffled: float | None = 0.0) -> Measured:
    return Measured(0.3, 99.0, 0.01, shuffled, true, 0.05)


def check(layer: int, operation: str, verdict: str, forced: bool | None, natural: bool | None) -> NameCheck:
    if forced is None:
        return NameCheck(layer, 0, operation, verdict, 0, None, None, None, "too few")
    return NameCheck(layer, 0, operation, verdict, 60, 10, outcome(forced), outcome(bool(natural), None))


def hand_made() -> dict:
    rows = (
        check(0, "a", "supported", True, True),
        check(0, "a", "supported", True, False),
        check(2, "a", "weak", False, False),
        check(2, "b|c", "contradicted", False, True),
        check(4, "b|c", "not testable", None, None),
    )
    return NamesTable(7, 5, 20, {"ok": 5, "unclear": 2}, rows).to_json()


def test_sums_of_hand_made_outcomes():
    table = hand_made()
    assert (table["run"], table["named"], table["tested"], table["without_shuffle"]) == (7, 5, 4, 0)
    assert table["not_testable"] == {"too few": 1}
    assert table["all"]["forced"] == pytest.approx(
        {"value": 0.5, "low": 0.15003899, "high": 0.84996101, "n": 4, "why": ""}
    )
    assert table["all"]["natural"]["value"] == 0.5
    assert table["other_heads"] == pytest.approx({"forced": 0.05, "natural": 0.05})
    lower, upper = table["halves"]
    assert (lower["half"], lower["heads"], lower["forced"]["value"]) == ("lower", 4, 0.5)
    assert (upper["heads"], upper["forced"]["value"]) == (0, None)
    assert [(one["operation"], one["heads"], one["forced"]["value"]) for one in table["operations"]] == [
        ("a", 3, pytest.approx(2 / 3)),
        ("b|c", 1, 0.0),
    ]
    said = [(one["verdict"], one["heads"], one["forced"]["value"], one["not_run"]) for one in table["verdicts"]]
    assert said == [
        ("supported", 2, 1.0, 0),
        ("weak", 1, 0.0, 0),
        ("contradicted", 1, 0.0, 0),
        ("not testable", 0, None, 1),
    ]
    assert json.loads(json.dumps(table)) == table


def test_text_of_hand_made_outcomes():
    text = table_text("descriptions", hand_made())
    assert "| **all** | 4 | 0.50 [0.15, 0.85] | 0.50 [0.15, 0.85] |" in text
    assert "| the same names, of the other heads |  | 0.05 | 0.05 |" in text
    assert "b\\|c" in text
    assert "| supported | 2 | 0 | 1.00 [0.34, 1.00] | 1 | 1 | 0.50 [0.09, 0.91] | 0 |" in text
    assert "| not testable | 0 | 0 | – | 0 | 0 | – | 1 |" in text
    assert text.endswith("Not testable: 1 of 5 names: too few (1).")
    sentences = " ".join(read_descriptions(hand_made()))
    assert "Run 7 has 7 heads: 5 ok, 2 unclear, 0 failed." in sentences
    assert "true of 5.0% and 5.0% of the other heads" in sentences
    assert "1.00 [0.34, 1.00] of the 2 that it calls supported" in sentences
    assert "shuffled" not in sentences
    assert "behind the gain of the final norm" in sentences
    older = {name: value for name, value in hand_made().items() if name != "projection"}
    assert "as in the paper" in " ".join(read_descriptions(older))
    nothing = NamesTable(1, 5, 20, {"unclear": 2}, ()).to_json()
    assert read_descriptions(nothing)[-1] == "No name could be tested on the running model."
    assert table_text("descriptions", nothing).endswith("Not testable: 0 of 0 names.")


# runs


def test_a_run_of_another_model_is_refused_and_the_newest_of_this_one_is_taken(bench, engine, tmp_path):
    checkpoint, other = bench.checkpoint, tiny_bench(tmp_path / "other").checkpoint
    stored_run(engine, checkpoint, [named(checkpoint, 0, 0, "copying")], describer="old")
    newest = stored_run(engine, checkpoint, [named(checkpoint, 0, 0, "copying")], describer="new")
    foreign = stored_run(engine, other, [named(checkpoint, 0, 0, "copying")])
    assert named_run(engine, None, checkpoint, load_relations(), max_pairs=60).number == newest
    with pytest.raises(UserMistake, match=f"run {foreign} is of another model") as told:
        named_run(engine, foreign, checkpoint, load_relations(), max_pairs=60)
    assert "\n" not in str(told.value)
    with pytest.raises(UnknownRun, match="no such run"):
        named_run(engine, 99, checkpoint, load_relations(), max_pairs=60)


def test_a_second_time_nothing_is_run_and_other_runs_lie_beside(bench, engine, tmp_path):
    checkpoint = bench.checkpoint
    one, other = step_pairs(checkpoint, first=1), step_pairs(checkpoint, first=1, step=2)
    first = stored_run(engine, checkpoint, [named(checkpoint, 0, 1, "on", judging=one)])
    table = check_names(bench, engine, first, max_pairs=60)
    again = wordy_bench(tmp_path)
    again.__dict__["model"] = None  # a running model would be missed
    assert check_names(again, engine, first, max_pairs=60) == table
    second = stored_run(engine, checkpoint, [named(checkpoint, 0, 1, "on", judging=other)], describer="other")
    check_names(bench, engine, second, max_pairs=60)
    assert len(list((tmp_path / "results" / "descriptions-folded").iterdir())) == 2


# the command


def test_the_command_and_its_part_of_the_report(bench, engine, tmp_path):
    checkpoint = bench.checkpoint
    reports = [
        named(checkpoint, 0, 0, "copying"),
        named(checkpoint, 1, 1, "one word on", judging=step_pairs(checkpoint), verdict="weak"),
        named(checkpoint, 1, 2, "free text", verdict="not testable"),
    ]
    stored_run(engine, checkpoint, reports)
    base = ["--model", checkpoint.name, "--device", "cpu", "--out", str(tmp_path / "out")]
    names = ["descriptions", *base, "--database", str(tmp_path / "runs.sqlite")]
    shown = CliRunner().invoke(app, names)
    assert shown.exit_code == 0, shown.output
    assert "| **all** | 2 |" in shown.output
    assert "Not testable: 1 of 3 names" in shown.output
    table = json.loads(CliRunner().invoke(app, [*names, "--json"]).stdout)
    assert table == json.loads((tmp_path / "out" / "descriptions.json").read_text())["result"]
    assert [one["operation"] for one in table["heads"]] == ["copying", "one word on", "free text"]
    assert table["heads"][1]["natural"].keys() == Measured.__dataclass_fields__.keys()
    report = CliRunner().invoke(app, ["report", *base])
    assert report.exit_code == 0, report.output
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## The names of a run" in text
    assert "At most 60 pairs a head" in text


def test_mistakes_are_one_line(bench, engine, tmp_path):
    other = tiny_bench(tmp_path / "other").checkpoint
    foreign = stored_run(engine, other, [named(bench.checkpoint, 0, 0, "copying")])
    names = ["descriptions", "--model", bench.checkpoint.name, "--device", "cpu", "--out", str(tmp_path / "out")]
    names += ["--database", str(tmp_path / "runs.sqlite")]
    for more, message in (
        ([], "no finished run of"),
        (["--run", "9"], "no such run"),
        (["--run", str(foreign)], f"run {foreign} is of another model"),
    ):
        told = CliRunner().invoke(app, [*names, *more])
        assert told.exit_code == 2
        assert message in told.output
        assert len(told.output.strip().splitlines()) == 1
