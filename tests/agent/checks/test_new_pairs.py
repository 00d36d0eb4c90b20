"""What the test of a description tells besides its verdict: pairs for which it holds, and pairs that it missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.checks.new_pairs import EXAMPLES, MOST_SPELLED, PlannedTest, finish_test
from agent.checks.pair_scorer import PairScorer
from agent.results import HeadDescription, TestResult
from agent.runs.head_rows import test_of as read_test
from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import EngineSettings
from tests.support.eval.faithfulness_models import tiny_bench


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> MapsEngine:
    checkpoint = tiny_bench(tmp_path_factory.mktemp("tiny"), "llama").checkpoint
    return MapsEngine(checkpoint, EngineSettings("embedding", top=4, targets=5, include_special=True))


def result_of(maps: MapsEngine, pairs: PairSet) -> TestResult:
    said = HeadDescription("ok", "lexical", operation="an operation")
    return finish_test(PlannedTest(said, maps.map_head(1, 2), pairs), PairScorer(maps))


def made_of_rows(maps: MapsEngine, n: int) -> tuple[PairSet, list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs of which every second one takes the strongest target of its row, the others one that is not listed."""
    text = maps.checkpoint.vocabulary.text
    rows = maps.at(maps.truest).rows_of(1, 2, range(20, 20 + n))
    targets = [row.targets[0].token_id for row in rows]
    far = [next(i for i in range(3, 80) if i not in {t.token_id for t in row.targets}) for row in rows]
    chosen = [good if place % 2 == 0 else bad for place, (good, bad) in enumerate(zip(targets, far, strict=True))]
    spelled = [(row.token, text(target)) for row, target in zip(rows, chosen, strict=True)]
    pairs = PairSet(tuple(row.token_id for row in rows), tuple((t,) for t in chosen), 5)
    return pairs, spelled[::2], spelled[1::2]


def test_pairs_that_hit_and_pairs_that_missed_are_told_apart(maps):
    pairs, good, bad = made_of_rows(maps, 16)
    found = result_of(maps, pairs)
    assert found.pairs.score == 0.5
    assert list(found.held) == good[:EXAMPLES]
    assert list(found.missed) == bad[:EXAMPLES]
    assert [part.split(" ")[0] for part in found.examples] == ["holds", "not"]


def test_a_target_is_named_only_where_few_are_accepted(maps):
    pairs, good, _ = made_of_rows(maps, 16)
    wide = PairSet(pairs.sources, tuple((*own, *range(90, 90 + MOST_SPELLED)) for own in pairs.targets), 5)
    found = result_of(maps, wide)
    assert {target for _, target in (*found.held, *found.missed)} == {""}
    assert {good[0][0]} <= {source for source, _ in found.held}
    assert all("→" not in part for part in found.examples)


def test_a_pair_with_several_accepted_targets_names_them_all(maps):
    pairs, good, _ = made_of_rows(maps, 16)
    text = maps.checkpoint.vocabulary.text
    either = PairSet(pairs.sources, tuple((*own, 90) for own in pairs.targets), 5)
    source, target = result_of(maps, either).held[0]
    assert (source, target) == (good[0][0], f"{good[0][1].strip()} or {text(90).strip()}")


def test_examples_survive_storage_and_may_be_absent(maps, tmp_path: Path):
    found = result_of(maps, made_of_rows(maps, 12)[0])
    values = found.to_json()
    assert read_test(values) == found
    old = {name: value for name, value in values.items() if name not in ("held", "missed")}
    assert read_test(old).examples == ()
