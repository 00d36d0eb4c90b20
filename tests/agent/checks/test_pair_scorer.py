"""Pairs scored once: the same numbers as the engine's, to the last bit."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.checks import pair_scorer
from agent.checks.pair_scorer import PairScorer
from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import EngineSettings
from tests.support.memory_model import memory_checkpoint

IDS = st.integers(0, 699)
TARGETS = st.lists(IDS, min_size=1, max_size=4, unique=True).map(tuple)
PAIR_SETS = st.builds(
    lambda pairs, k: PairSet(tuple(pairs), tuple(pairs.values()), k),
    st.dictionaries(IDS, TARGETS, min_size=1, max_size=12),
    st.sampled_from((1, 10)),
)


def engines():
    checkpoint, chosen = memory_checkpoint(), EngineSettings(source="embedding")
    return MapsEngine(checkpoint, chosen), PairScorer(MapsEngine(checkpoint, chosen))


@settings(max_examples=15)
@given(st.lists(PAIR_SETS, min_size=1, max_size=4))
def test_scores_are_those_of_the_plain_engine(pair_sets):
    plain, scorer = engines()
    for source in ("embedding", "first-mlp"):
        expected = plain.score_pairs(pair_sets, source=source)
        for _ in range(2):  # the second time from memory
            found = [scorer.score(one, source=source) for one in pair_sets]
            for one, other in zip(expected, found, strict=True):
                torch.testing.assert_close(other.score, one.score, rtol=0, atol=1e-7)
                torch.testing.assert_close(other.suppression, one.suppression, rtol=0, atol=1e-7)


def test_no_pair_is_scored_twice(monkeypatch):
    _, scorer = engines()
    seen = []
    plain = MapsEngine.score_pairs

    def counted(self, pair_sets, **options):
        seen.extend(pair_sets)
        return plain(self, pair_sets, **options)

    monkeypatch.setattr(MapsEngine, "score_pairs", counted)
    first, second = PairSet((1, 2, 3), ((4,), (5,), (6,)), 10), PairSet((2, 3, 9), ((5,), (6,), (7,)), 10)
    assert scorer.prepare({"embedding": [first]}) == 3
    assert scorer.prepare({"embedding": [first, second]}) == 1
    scorer.score(first, source="embedding"), scorer.score(second, source="embedding")
    assert len(seen) == 4
    assert scorer.prepare({"first-mlp": [first]}) == 3  # another source is another number
    assert scorer.prepare({"embedding": [PairSet((1,), ((4,),), 1)]}) == 1  # another k too


def test_large_sets_are_cut_into_passes(monkeypatch):
    monkeypatch.setattr(pair_scorer, "ENTRIES_AT_ONCE", 3)
    plain, scorer = engines()
    big = PairSet(tuple(range(7)), tuple((i + 1, i + 2) for i in range(7)), 10)
    found = scorer.score(big, source="embedding").score
    torch.testing.assert_close(found, plain.score_pairs([big], source="embedding")[0].score, rtol=0, atol=1e-7)


def test_hits_are_told_pair_by_pair():
    plain, scorer = engines()
    one = PairSet((1, 2), ((3,), (4,)), 10)
    found = scorer.hits(one, source="embedding")
    assert found.shape == (2, 2, 3, 6)
    alone = plain.score_pairs([PairSet((2,), ((4,),), 10)], source="embedding")[0]
    assert torch.equal(found[1, 0], alone.score > 0.5)
    assert torch.equal(found[1, 1], alone.suppression > 0.5)


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
            waiting = [pool.submit(scorer.hits, one, source="embedding") for one in sets]
            while len(scorer._waiting) < len(sets):
                time.sleep(0.01)
        for one in waiting:
            one.result()
    assert passes == [8]


def test_an_empty_set_scores_nothing():
    _, scorer = engines()
    assert scorer.score(PairSet((), (), 10), source="embedding").score.sum() == 0
    assert scorer.prepare({}) == 0


@pytest.mark.parametrize("heads", [[0], [1, 4], None])
def test_map_heads_of_some_heads_are_those_of_all(heads):
    plain, _ = engines()
    every = {(m.layer, m.head): m for m in plain.map_heads()}
    some = list(plain.map_heads([2], heads=heads))
    assert [m.head for m in some] == (heads or list(range(6)))
    assert all(m == every[m.layer, m.head] for m in some)
