"""What the test of a description tells besides its verdict: words for which it holds, and words that it missed."""

from __future__ import annotations

import pytest
import torch

from agent.checks.claims import claimed_operation
from agent.checks.new_pairs import (
    HIGH,
    HIGH_OF_CLASSES,
    MOST_SPELLED,
    TESTED_ROWS,
    PlannedTest,
    finish_test,
    percentile_needed,
    plan_test,
    verdict_of,
    with_tested_rows,
)
from agent.checks.pair_scorer import PairScorer
from agent.checks.trials import run_trial
from agent.results.descriptions import HeadDescription
from agent.results.outcomes import PairTest, RowTest, TestResult
from agent.results.reports import HeadReport
from agent.runs.head_rows import test_of as read_test
from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings
from tests.support.believable import made_provenance
from tests.support.eval.faithfulness_models import tiny_bench


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> MapsEngine:
    checkpoint = tiny_bench(tmp_path_factory.mktemp("tiny"), "llama").checkpoint
    return MapsEngine(checkpoint, EngineSettings("embedding", top=4, targets=5, include_special=True))


def result_of(maps: MapsEngine, pairs: PairSet) -> TestResult:
    said, mapping = HeadDescription("ok", "lexical", operation="an operation"), maps.map_head(1, 2)
    scorer = PairScorer(maps)
    test = finish_test(PlannedTest(said, mapping, pairs), scorer)
    report = HeadReport(mapping, (), said, test, made_provenance(mapping))
    (found,) = with_tested_rows([report], scorer)
    return found.test


def made_of_rows(maps: MapsEngine, n: int, *, every: int = 2) -> tuple[PairSet, list[str]]:
    """Pairs and their targets; each `every`th takes the strongest target of its row, the others one not listed."""
    text = maps.checkpoint.vocabulary.text
    rows = maps.at(maps.truest).rows_of(1, 2, range(20, 20 + n))
    targets = [row.targets[0].token_id for row in rows]
    far = [next(i for i in range(3, 80) if i not in {t.token_id for t in row.targets}) for row in rows]
    chosen = [good if place % every == 0 else bad for place, (good, bad) in enumerate(zip(targets, far, strict=True))]
    pairs = PairSet(tuple(row.token_id for row in rows), tuple((t,) for t in chosen), 5)
    return pairs, [text(target) for target in chosen]


@pytest.mark.parametrize(("n", "every", "held"), [(16, 2, 6), (40, 4, 3), (40, 20, 1), (40, 1, 12), (10, 2, 5)])
def test_words_that_hit_and_words_that_missed_are_shown_in_their_proportion(maps, n, every, held):
    pairs, said = made_of_rows(maps, n, every=every)
    found = result_of(maps, pairs)
    assert len(found.tested_rows) == min(n, TESTED_ROWS)
    assert sum(one.hit for one in found.tested_rows) == held
    places = [pairs.sources.index(one.row.token_id) for one in found.tested_rows]
    assert places == sorted(places)  # in the test's order: hits and misses are mixed
    assert [one.wanted for one in found.tested_rows] == [said[place] for place in places]
    assert [one.hit for one in found.tested_rows] == [place % every == 0 for place in places]


def test_their_targets_are_those_that_the_test_looked_at(maps):
    pairs, _ = made_of_rows(maps, 16)
    found = result_of(maps, pairs)
    ids = [one.row.token_id for one in found.tested_rows]
    expected = maps.at(maps.truest).strongest(ids, k=10)[1, 2]
    assert torch.equal(torch.tensor([[t.token_id for t in one.row.targets] for one in found.tested_rows]), expected)
    for one in found.tested_rows:
        accepted = pairs.targets[pairs.sources.index(one.row.token_id)]
        assert one.hit == bool({t.token_id for t in one.row.targets[: pairs.k]} & {*accepted})
        assert one.row.salience > 0


def test_a_target_is_named_only_where_few_are_accepted(maps):
    pairs, _ = made_of_rows(maps, 16)
    wide = PairSet(pairs.sources, tuple((*own, *range(90, 90 + MOST_SPELLED)) for own in pairs.targets), 5)
    found = result_of(maps, wide)
    assert {one.wanted for one in found.tested_rows} == {""}


def test_a_pair_with_several_accepted_targets_names_them_all(maps):
    pairs, said = made_of_rows(maps, 16)
    text = maps.checkpoint.vocabulary.text
    either = PairSet(pairs.sources, tuple((*own, 90) for own in pairs.targets), 5)
    first = result_of(maps, either).tested_rows[0]
    assert first.row.token_id == pairs.sources[0]
    assert first.wanted == f"{said[0].strip()} or {text(90).strip()}"


def test_tested_rows_survive_storage_and_may_be_absent(maps):
    found = result_of(maps, made_of_rows(maps, 12)[0])
    assert read_test(found.to_json(), found.rows_to_json()) == found
    assert read_test(found.to_json(), None).tested_rows == ()


@pytest.mark.parametrize(
    ("score", "shuffled", "percentile", "rows", "verdict"),
    [
        (0.15, 0.0, 96.0, None, "supported"),
        (0.9, None, 96.0, RowTest(10, 20, 10, 20), "supported"),
        (0.9, 0.1, 96.0, RowTest(18, 20, 1, 20), "weak"),  # the rows fall apart
        (0.14, 0.0, 100.0, None, "weak"),
        (0.9, 0.8, 100.0, None, "weak"),
        (0.9, 0.1, 95.9, None, "weak"),
        (0.9, 0.1, 74.0, None, "contradicted"),
        (0.0, 0.0, 99.0, None, "contradicted"),
    ],
)
def test_the_verdict_follows_from_the_scores(score, shuffled, percentile, rows, verdict):
    pairs = PairTest(20, 10, score, percentile, 0.02, 0.5, 269, shuffled)
    assert verdict_of(pairs, rows, percentile=96.0) == verdict


@pytest.mark.parametrize(
    ("operation", "needed"),
    [
        ("country to capital", HIGH),
        ("copying", HIGH),
        ("what a language model says", HIGH),
        ("countries to capital cities", HIGH_OF_CLASSES),
        ("words to single letters", HIGH_OF_CLASSES),
        ('plural nouns to "are", "were"', HIGH_OF_CLASSES),
    ],
)
def test_claims_of_classes_need_a_higher_percentile(maps, operation, needed):
    relations = load_relations()
    assert percentile_needed(claimed_operation(operation, relations)) == needed
    said, pairs = HeadDescription("ok", "lexical", operation=operation), made_of_rows(maps, 16)[0]
    planned = plan_test(
        said, maps.map_head(1, 2), vocabulary=maps.checkpoint.vocabulary, relations=relations, judging=pairs
    )
    assert planned.percentile == needed


@pytest.mark.parametrize(("percentile", "verdict"), [(HIGH, "supported"), (HIGH_OF_CLASSES, "weak")])
def test_the_verdict_asks_for_the_percentile_of_the_plan(maps, monkeypatch, percentile, verdict):
    scored = PairTest(16, 5, 0.6, 96.0, 0.02, 0.9, 7, 0.1)
    monkeypatch.setattr("agent.checks.new_pairs.score_new_pairs", lambda *_: scored)
    said, pairs = HeadDescription("ok", "lexical", operation="an operation"), made_of_rows(maps, 16)[0]
    planned = PlannedTest(said, maps.map_head(1, 2), pairs, percentile=percentile)
    assert finish_test(planned, PairScorer(maps)).verdict == verdict
    monkeypatch.setattr("agent.checks.trials.score_new_pairs", lambda *_: scored)
    assert run_trial(pairs, planned.mapping, PairScorer(maps), percentile=percentile).verdict == verdict
