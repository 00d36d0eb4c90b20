"""Pairs scored once, on the residual stream: the same numbers as the engine's, to the last bit."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.checks import pair_scorer
from agent.checks.pair_scorer import PairScorer
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.model import Checkpoint
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import EngineSettings
from tests.support.memory_model import memory_checkpoint
from tests.support.tiny_models import ROWS, tiny_model


def pair_sets_of(n_tokens: int) -> st.SearchStrategy[list[PairSet]]:
    ids = st.integers(0, n_tokens - 1)
    targets = st.lists(ids, min_size=1, max_size=4, unique=True).map(tuple)
    one = st.builds(
        lambda pairs, k: PairSet(tuple(pairs), tuple(pairs.values()), k),
        st.dictionaries(ids, targets, min_size=1, max_size=12),
        st.sampled_from((1, 10)),
    )
    return st.lists(one, min_size=1, max_size=4)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(tiny_model("llama", tmp_path_factory.mktemp("tiny"))[0]), device="cpu")


def engines(read: str = "embedding", checkpoint: Checkpoint | None = None):
    """An engine and a scorer of the same model; that of plain tensors has no blocks, so it is scored as it is read."""
    checkpoint, chosen = checkpoint or memory_checkpoint(), EngineSettings(source=read)
    return MapsEngine(checkpoint, chosen), PairScorer(MapsEngine(checkpoint, chosen))


@settings(max_examples=15)
@given(pair_sets_of(700))
@pytest.mark.parametrize("read", ["embedding", "first-mlp"])
def test_scores_are_those_of_the_plain_engine(read, pair_sets):
    same_as(*engines(read), read, pair_sets)


@settings(max_examples=15)
@given(pair_sets_of(ROWS))
@pytest.mark.parametrize("read", ["embedding", "first-mlp", "residual"])
def test_pairs_are_scored_on_the_residual_stream_whatever_rows_are_read_under(opened, read, pair_sets):
    plain, scorer = engines(read, opened)
    assert scorer.source == "residual"
    same_as(plain, scorer, "residual", pair_sets)


def same_as(plain: MapsEngine, scorer: PairScorer, source: str, pair_sets: list[PairSet]) -> None:
    expected = plain.score_pairs(pair_sets, source=source)
    for _ in range(2):  # the second time from memory
        found = [scorer.score(one) for one in pair_sets]
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, one.score, rtol=0, atol=1e-7)


def test_a_lead_in_decides_what_pairs_are_scored_under(opened):
    every = PairSet(tuple(range(1, 96)), tuple((i,) for i in range(1, 96)), 10)
    found = {}
    for lead_in in ((" the",), ("", " the red")):
        engine = MapsEngine(opened, EngineSettings(source="embedding", lead_in=lead_in))
        found[lead_in] = PairScorer(engine).score(every)
        assert torch.equal(found[lead_in], engine.score_pairs([every], source="residual")[0].score)
    assert not torch.equal(*found.values())


def test_rows_of_given_tokens_are_read_as_pairs_are_scored(opened):
    plain, scorer = engines("embedding", opened)
    mapping = plain.map_head(1, 2)
    assert scorer.rows_of(mapping, [5, 9]) == plain.at("residual").rows_of(1, 2, [5, 9])
    assert scorer.rows_of(mapping, [5, 9]) != plain.at("embedding").rows_of(1, 2, [5, 9])


@pytest.mark.parametrize("read", ["embedding", "first-mlp"])
def test_a_model_whose_blocks_cannot_run_is_scored_as_it_is_read(read):
    assert engines(read)[1].source == read


def test_a_model_of_one_layer_is_scored_on_the_residual_stream(tmp_path):
    folder, _ = tiny_model("llama", tmp_path / "one", num_hidden_layers=1)
    plain, scorer = engines("embedding", open_checkpoint(str(folder), device="cpu"))
    same_as(plain, scorer, "residual", [PairSet((3, 4), ((5,), (6,)), 10)])


def test_no_pair_is_scored_twice(monkeypatch):
    _, scorer = engines()
    seen = []
    plain = MapsEngine.score_pairs

    def counted(self, pair_sets, **options):
        seen.extend(pair_sets)
        return plain(self, pair_sets, **options)

    monkeypatch.setattr(MapsEngine, "score_pairs", counted)
    first, second = PairSet((1, 2, 3), ((4,), (5,), (6,)), 10), PairSet((2, 3, 9), ((5,), (6,), (7,)), 10)
    assert scorer.prepare([first]) == 3
    assert scorer.prepare(one for one in (first, second)) == 1
    scorer.score(first), scorer.score(second)
    assert len(seen) == 4
    assert scorer.prepare([PairSet((1,), ((4,),), 1)]) == 1  # another k is another number


def test_large_sets_are_cut_into_passes(monkeypatch):
    monkeypatch.setattr(pair_scorer, "ENTRIES_AT_ONCE", 3)
    plain, scorer = engines()
    big = PairSet(tuple(range(7)), tuple((i + 1, i + 2) for i in range(7)), 10)
    found = scorer.score(big)
    torch.testing.assert_close(found, plain.score_pairs([big], source="embedding")[0].score, rtol=0, atol=1e-7)


def test_pairs_with_many_targets_are_scored_as_those_with_few(opened, monkeypatch):
    """By the strongest targets of their sources instead of by counting larger entries."""
    plain, scorer = engines("embedding", opened)
    many = PairSet((3, 4, 5, 6), (tuple(range(10, 40)), tuple(range(40, 90)), (7,), tuple(range(20, 80))), 3)
    monkeypatch.setattr(pair_scorer, "WIDE", 24)
    expected = plain.score_pairs([many], source="residual")[0].score
    torch.testing.assert_close(scorer.score(many), expected, rtol=0, atol=1e-7)
    assert 0 < float(expected.mean()) < 1


def test_hits_are_told_pair_by_pair():
    plain, scorer = engines()
    one = PairSet((1, 2), ((3,), (4,)), 10)
    found = scorer.hits(one)
    assert found.shape == (2, 3, 6)
    alone = plain.score_pairs([PairSet((2,), ((4,),), 10)], source="embedding")[0]
    assert torch.equal(found[1], alone.score > 0.5)


def test_threads_that_wait_are_served_in_one_pass(monkeypatch):
    """While one thread holds the engine, others queue their pairs; whoever comes next scores them all."""
    _, scorer = engines()
    passes = []
    plain = MapsEngine.score_pairs

    def counted(self, pair_sets, **options):
        passes.append(len(pair_sets))
        return plain(self, pair_sets, **options)

    monkeypatch.setattr(MapsEngine, "score_pairs", counted)
    sets = [PairSet((i, i + 1), ((i + 2,), (i + 3,)), 10) for i in range(0, 40, 10)]
    with ThreadPoolExecutor(len(sets)) as pool:
        with scorer.lock:
            waiting = [pool.submit(scorer.hits, one) for one in sets]
            while len(scorer._waiting) < len(sets):
                time.sleep(0.01)
        for one in waiting:
            one.result()
    assert passes == [8]


def test_an_empty_set_scores_nothing():
    _, scorer = engines()
    assert scorer.score(PairSet((), (), 10)).sum() == 0
    assert scorer.prepare([]) == 0


@pytest.mark.parametrize("heads", [[0], [1, 4], None])
def test_map_heads_of_some_heads_are_those_of_all(heads):
    plain, _ = engines()
    every = {(m.layer, m.head): m for m in plain.map_heads()}
    some = list(plain.map_heads([2], heads=heads))
    assert [m.head for m in some] == (heads or list(range(6)))
    assert all(m == every[m.layer, m.head] for m in some)


def test_without_a_start_of_texts_pairs_are_scored_as_rows_are_read(opened, monkeypatch):
    plain, scorer = engines("embedding", opened)
    monkeypatch.setattr(type(opened.vocabulary), "start", ())
    assert scorer.source == "embedding"
    same_as(plain, scorer, "embedding", [PairSet((1, 2), ((3,), (4,)), 10)])
