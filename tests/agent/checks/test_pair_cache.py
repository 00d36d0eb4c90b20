"""Pairs scored once: the same numbers as the plain engine's, to the last bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.checks import pair_cache
from agent.checks.pair_cache import PairCachingEngine
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
    return MapsEngine(checkpoint, chosen), PairCachingEngine(checkpoint, chosen)


@settings(max_examples=15)
@given(st.lists(PAIR_SETS, min_size=1, max_size=4))
def test_scores_are_those_of_the_plain_engine(pair_sets):
    plain, caching = engines()
    for source in ("embedding", "first-mlp"):
        expected = plain.score_pairs(pair_sets, source=source)
        for _ in range(2):  # the second time from memory
            for one, other in zip(expected, caching.score_pairs(pair_sets, source=source), strict=True):
                torch.testing.assert_close(other.score, one.score, rtol=0, atol=1e-7)
                torch.testing.assert_close(other.suppression, one.suppression, rtol=0, atol=1e-7)


def test_no_pair_is_scored_twice(monkeypatch):
    _, caching = engines()
    seen = []
    plain = MapsEngine.score_pairs

    def counted(self, pair_sets, **options):
        seen.extend(pair_sets)
        return plain(self, pair_sets, **options)

    monkeypatch.setattr(MapsEngine, "score_pairs", counted)
    first, second = PairSet((1, 2, 3), ((4,), (5,), (6,)), 10), PairSet((2, 3, 9), ((5,), (6,), (7,)), 10)
    assert caching.prepare({"embedding": [first]}) == 3
    assert caching.prepare({"embedding": [first, second]}) == 1
    caching.score_pairs([first, second], source="embedding")
    assert len(seen) == 4
    assert caching.prepare({"first-mlp": [first]}) == 3  # another source is another number
    assert caching.prepare({"embedding": [PairSet((1,), ((4,),), 1)]}) == 1  # another k too


def test_large_sets_are_cut_into_passes(monkeypatch):
    monkeypatch.setattr(pair_cache, "ENTRIES_AT_ONCE", 3)
    plain, caching = engines()
    big = PairSet(tuple(range(7)), tuple((i + 1, i + 2) for i in range(7)), 10)
    found = caching.score_pairs([big], source="embedding")[0].score
    torch.testing.assert_close(found, plain.score_pairs([big], source="embedding")[0].score, rtol=0, atol=1e-7)


def test_a_choice_of_layers_goes_past_the_memory():
    plain, caching = engines()
    one = PairSet((1, 2), ((3,), (4,)), 10)
    found = caching.score_pairs([one], source="embedding", layers=[1])[0].score
    assert found.shape == (1, 6)
    torch.testing.assert_close(found, plain.score_pairs([one], source="embedding", layers=[1])[0].score)


def test_an_empty_set_scores_nothing():
    _, caching = engines()
    assert caching.score_pairs([PairSet((), (), 10)], source="embedding")[0].score.sum() == 0
    assert caching.prepare({}) == 0


@pytest.mark.parametrize("heads", [[0], [1, 4], None])
def test_map_heads_of_some_heads_are_those_of_all(heads):
    plain, _ = engines()
    every = {(m.layer, m.head): m for m in plain.map_heads()}
    some = list(plain.map_heads([2], heads=heads))
    assert [m.head for m in some] == (heads or list(range(6)))
    assert all(m == every[m.layer, m.head] for m in some)
