"""Operations offered by a part of their pairs: the plain computation, the rule, what is kept, what tests get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agent.checks.claims import CHOOSING, FEWEST_DEALT, ClaimedRelation, choosing_pairs
from agent.checks.controls import ABOVE_SHUFFLED, FEWEST, mixed_pairs
from agent.checks.new_pairs import HIGH, score_new_pairs
from agent.checks.offers.catalogue_scores import ABOVE, OFFERED, CatalogueScores
from agent.checks.pair_scorer import PairScorer
from agent.results.evidence import KnownScore
from maps_engine import fitting
from maps_engine.engine import MapsEngine
from maps_engine.model import Checkpoint
from maps_engine.relations.catalogue import Relation
from maps_engine.relations.thresholds import TAU
from maps_engine.results import EngineSettings
from tests.support.eval.faithfulness_models import relation_of, tiny_bench

LOW_TAU = 0.02  # tiny random models do little


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return tiny_bench(tmp_path_factory.mktemp("tiny"), "llama").checkpoint


@pytest.fixture(scope="module")
def relations(opened: Checkpoint) -> tuple[Relation, ...]:
    texts = [opened.vocabulary.text(i) for i in range(len(opened.vocabulary))]
    pieces = [text for text in texts if text.strip() == text and opened.vocabulary.single_id(text, leading_space=False)]
    return tuple(steps(pieces, step) for step in (1, 2, 5))


def steps(pieces: list[str], step: int) -> Relation:
    """Every piece maps to the one `step` places on."""
    pairs = tuple((one, (pieces[(i + step) % len(pieces)],)) for i, one in enumerate(pieces))
    return replace(relation_of(f"step-{step}", pairs), source_space=False, target_space=False)


def scorer_of(checkpoint: Checkpoint, folder: Path | None = None) -> PairScorer:
    return PairScorer(MapsEngine(checkpoint, EngineSettings("embedding", top=4)), folder)


def passing(checkpoint: Checkpoint, relations: tuple[Relation, ...], layer: int, head: int) -> list[KnownScore]:
    """By hand, with every operation's choosing pairs as a test of their own."""
    scorer, mapping = scorer_of(checkpoint), MapsEngine(checkpoint, EngineSettings("embedding")).map_head(layer, head)
    found = []
    for one in relations:
        pairs = choosing_pairs(one, checkpoint.vocabulary)
        if len(pairs.sources) < FEWEST:
            continue
        test = score_new_pairs(pairs, mapping, scorer)
        shuffled = test.shuffled or 0.0
        if test.score >= LOW_TAU and test.percentile >= OFFERED and test.score - shuffled >= LOW_TAU / 2:
            found.append(KnownScore(one.name, test.score, shuffled, test.percentile, test.n_pairs, test.k))
    return sorted(found, key=lambda one: one.shuffled - one.score)


def test_an_operation_is_offered_by_the_scores_of_its_choosing_pairs(opened, relations, monkeypatch):
    monkeypatch.setattr("agent.checks.offers.catalogue_scores.TAU", LOW_TAU)
    monkeypatch.setattr("agent.checks.offers.catalogue_scores.ABOVE", LOW_TAU / 2)
    catalogue, shape = CatalogueScores(scorer_of(opened), relations), opened.weights.shape
    offered = 0
    for layer in range(shape.n_layers):
        for head in range(shape.n_heads):
            found, expected = catalogue.of_head(layer, head), passing(opened, relations, layer, head)
            assert {one.operation for one in found} == {one.operation for one in expected}
            margins = [one.score - one.shuffled for one in found]
            assert margins == sorted(margins, reverse=True)
            for one in found:
                (same,) = [other for other in expected if other.operation == one.operation]
                assert (one.n_pairs, one.k) == (same.n_pairs, same.k)
                assert (one.score, one.percentile) == pytest.approx((same.score, same.percentile), abs=1e-6)
            offered += len(found)
    assert offered > 0


def test_pairs_that_choose_do_not_test(opened, relations):
    for one in relations:
        choosing = choosing_pairs(one, opened.vocabulary)
        judging = ClaimedRelation(one, scored=True).pairs(opened.vocabulary, excluded=frozenset(), n=10_000)
        whole = ClaimedRelation(one).pairs(opened.vocabulary, excluded=frozenset(), n=10_000)
        assert set(whole.sources) == set(choosing.sources) | set(judging.sources)
        assert not set(choosing.sources) & set(judging.sources)
        assert len(judging.sources) >= 2 * len(choosing.sources)
        assert len(choosing.sources) == min(CHOOSING, len({s for s, _ in one.pairs}) // 3)


def test_small_operations_are_left_whole_for_tests(opened, relations):
    small = replace(relations[0], name="small", pairs=relations[0].pairs[: FEWEST_DEALT - 1])
    assert choosing_pairs(small, opened.vocabulary).sources == ()
    assert len(ClaimedRelation(small).pairs(opened.vocabulary, excluded=frozenset(), n=60).sources) == FEWEST_DEALT - 1
    assert CatalogueScores(scorer_of(opened), [small]).of_head(0, 0) == ()


def test_scores_are_kept_from_one_process_to_the_next(opened, relations, tmp_path: Path, monkeypatch):
    first = CatalogueScores(scorer_of(opened, tmp_path), relations)
    assert not first.is_scored
    expected = [first.of_head(1, head) for head in range(4)]
    again = CatalogueScores(scorer_of(opened, tmp_path), relations)
    assert again.is_scored
    monkeypatch.setattr(again.scorer.maps, "score_pairs", None)  # whoever scores now fails
    assert [again.of_head(1, head) for head in range(4)] == expected


def test_what_this_process_has_scored_is_there_without_a_folder(opened, relations):
    catalogue = CatalogueScores(scorer_of(opened), relations)
    assert not catalogue.is_scored
    catalogue.of_head(0, 0)
    assert catalogue.is_scored


def test_nothing_is_offered_where_it_would_be_dear(opened, relations, monkeypatch):
    monkeypatch.setattr(fitting, "ON_PROCESSOR", 1.0)
    catalogue = CatalogueScores(scorer_of(opened), relations)
    monkeypatch.setattr(catalogue.scorer.maps, "score_pairs", None)  # whoever scores now fails
    assert catalogue.of_head(0, 0) == ()


def test_the_rule_is_milder_than_that_of_tests():
    assert (OFFERED, ABOVE) == (90.0, TAU / 2)
    assert (HIGH, ABOVE_SHUFFLED) == (95.0, TAU)


def test_mixed_pairs_keep_sources_and_deal_no_own_target(opened, relations):
    pairs = choosing_pairs(relations[0], opened.vocabulary)
    mixed, own = mixed_pairs(pairs), dict(zip(pairs.sources, pairs.targets, strict=True))
    assert set(mixed.sources) <= set(pairs.sources)
    assert all(not set(t) & set(own[s]) for s, t in zip(mixed.sources, mixed.targets, strict=True))
    assert torch.tensor(mixed.sources).numel() > len(pairs.sources)
