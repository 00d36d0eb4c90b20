"""The shuffled-pair null: exact binomial, brute force simulation, calibration, and heads that are indifferent."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.significance import corrected, shuffled, significance
from maps_engine.results import EngineSettings
from tests.support.memory_model import memory_checkpoint, memory_weights


def one(value: float) -> torch.Tensor:
    return torch.tensor([[value]])


def exact_tail(hits: int, n: int, null_hits: int, n_null: int) -> float:
    """Fisher's one-sided p, counted out."""
    total = hits + null_hits
    ways = sum(math.comb(n, i) * math.comb(n_null, total - i) for i in range(hits, min(n, total) + 1))
    return ways / math.comb(n + n_null, total)


@given(st.integers(1, 60), st.integers(1, 200), st.data())
@settings(max_examples=80)
def test_p_is_exact(n, n_null, data):
    hits, null_hits = data.draw(st.integers(0, n)), data.draw(st.integers(0, n_null))
    found = significance(one(hits / n), one(null_hits / n_null), n=n, n_null=n_null)
    q = (null_hits + 0.5) / (n_null + 1)
    assert float(found.null) == pytest.approx(q, rel=1e-5)
    assert float(found.p) == pytest.approx(exact_tail(hits, n, null_hits, n_null), rel=1e-6)
    assert float(found.z) == pytest.approx((hits / n - q) / math.sqrt(q * (1 - q) / n), rel=1e-3, abs=1e-4)


def test_p_agrees_with_the_binomial_where_the_null_is_well_known():
    """With very many shuffled pairs the null's rate is as good as known."""
    n, n_null, q = 40, 400_000, 0.03
    binomial = sum(math.comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(5, n + 1))
    found = significance(one(5 / n), one(q), n=n, n_null=n_null)
    assert float(found.p) == pytest.approx(binomial, rel=1e-3)


def test_p_agrees_with_simulation():
    """Hits dealt blindly over real and shuffled pairs."""
    rng = random.Random(4)
    n, n_null, hits, null_hits, rounds = 40, 200, 4, 6, 20_000
    pairs = range(n + n_null)
    simulated = sum(sum(i < n for i in rng.sample(pairs, hits + null_hits)) >= hits for _ in range(rounds)) / rounds
    found = significance(one(hits / n), one(null_hits / n_null), n=n, n_null=n_null)
    assert float(found.p) == pytest.approx(simulated, abs=4 * math.sqrt(simulated / rounds))


def test_the_same_score_means_more_on_more_pairs():
    few = significance(one(0.15), one(0.05), n=40, n_null=200)
    many = significance(one(0.15), one(0.05), n=500, n_null=2500)
    assert float(few.p) > 0.01
    assert float(many.p) < 1e-10
    assert float(many.z) > 3 * float(few.z)


@pytest.mark.parametrize(("n", "n_null"), [(60, 300), (300, 600)])
@pytest.mark.parametrize("rate", [0.005, 0.05, 0.3])
def test_an_indifferent_head_is_no_oftener_significant_than_p_says(rate, n, n_null):
    """Hits and null hits drawn at one rate: P(p <= alpha) <= alpha, far into the tail."""
    g = torch.Generator().manual_seed(7)
    heads = 100_000
    hits = torch.binomial(torch.full((1, heads), float(n)), torch.tensor(rate), generator=g) / n
    null = torch.binomial(torch.full((1, heads), float(n_null)), torch.tensor(rate), generator=g) / n_null
    p = significance(hits, null, n=n, n_null=n_null).p
    for alpha in (0.05, 0.01, 0.001, 0.0001):
        noise = 4 * math.sqrt(alpha / heads)
        assert float((p <= alpha).double().mean()) <= alpha + noise


@pytest.mark.parametrize(("n", "rounds"), [(30, 5), (120, 5), (150, 4), (300, 2), (700, 2)])
def test_large_operations_are_shuffled_less_often(n, rounds):
    pairs = PairSet(tuple(range(n)), tuple((1000 + t,) for t in range(n)), 5)
    most = rounds * n
    assert most - 3 * rounds - 6 < len(shuffled(pairs).sources) <= most


def test_no_pairs_give_no_significance():
    found = significance(one(0.5), one(0.0), n=10, n_null=0)
    assert all(math.isnan(float(value)) for value in (found.null, found.z, found.p))


@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=3, unique=True), min_size=1, max_size=12))
@settings(max_examples=60)
def test_shuffling_never_deals_an_own_target(targets):
    pairs = PairSet(tuple(range(len(targets))), tuple(map(tuple, targets)), 3)
    dealt = shuffled(pairs, rounds=4)
    assert dealt.k == 3
    assert len(dealt.sources) == len(dealt.targets) <= 4 * len(targets)
    pool = {t for accepted in targets for t in accepted}
    for source, accepted in zip(dealt.sources, dealt.targets, strict=True):
        assert accepted
        assert set(accepted) <= pool - set(targets[source])


def test_shuffling_is_the_same_every_time():
    pairs = PairSet(tuple(range(9)), tuple((t,) for t in range(10, 19)), 5)
    assert shuffled(pairs) == shuffled(pairs)
    assert shuffled(pairs) != shuffled(pairs, seed=1)


def test_one_target_for_all_leaves_nothing_to_deal():
    assert shuffled(PairSet((1, 2, 3), ((9,), (9,), (9,)), 1)).sources == ()


def test_the_null_exposes_a_head_that_writes_the_same_targets_whatever_it_reads():
    """Head 0.0 maps source i to target i; head 1.0 promotes all targets of the operation for every source."""
    w = memory_weights()
    n = 10
    w.E = torch.eye(700, 48)[torch.randperm(700, generator=torch.Generator().manual_seed(2))] * 0
    w.E[:n, :n] = torch.eye(n)  # sources 0..9
    w.U = 0.01 * torch.randn(700, 48, generator=torch.Generator().manual_seed(3))
    w.U[100 : 100 + n, :n] = torch.eye(n) * 5  # targets 100..109
    w.value, w.output = torch.zeros_like(w.value), torch.zeros_like(w.output)
    w.value[0, 0, :16] = w.value[1, 0, :16] = torch.eye(16)
    w.output[0, 0, :, :16] = torch.eye(16)
    w.output[1, 0, :n, :n] = 1.0
    w.value_bias = None
    pairs = PairSet(tuple(range(n)), tuple((100 + i,) for i in range(n)), 10)
    engine = MapsEngine(memory_checkpoint(w), EngineSettings(source="embedding"))
    null = shuffled(pairs)
    real, dealt = engine.score_pairs([PairSet(pairs.sources, pairs.targets, 1), null], source="embedding")
    whole, _ = engine.score_pairs([pairs, null], source="embedding")
    assert real.score[0, 0] == 1
    assert whole.score[1, 0] == 1  # as good a score …
    found = significance(whole.score, dealt.score, n=n, n_null=len(null.sources))
    assert float(found.null[1, 0]) > 0.95
    assert float(found.p[1, 0]) > 0.3  # … that says nothing
    exact = engine.score_pairs([PairSet(null.sources, null.targets, 1)], source="embedding")[0]
    found = significance(real.score, exact.score, n=n, n_null=len(null.sources))
    assert float(found.p[0, 0]) < 1e-7


def test_correction_for_many_heads_stops_at_one():
    assert corrected(1e-5, 270) == pytest.approx(0.0027)
    assert corrected(0.2, 270) == 1.0
