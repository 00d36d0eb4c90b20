"""The bfloat16 scan returns float32's lists, and its bounds hold, also where bfloat16 alone would rank wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maps_engine.model import ModelShape
from maps_engine.ov.low_precision import LowPrecisionScan, _largest_eigenvalues, _Rounded, _SalienceError
from maps_engine.ov.salience import salient_tokens, top_targets
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.results import EngineSettings
from tests.support.memory_model import memory_checkpoint, memory_weights

SHAPE = ModelShape(n_layers=2, n_heads=6, n_value_heads=2, d_model=64, d_head=16, vocab_size=6000)


def engine_of(weights):
    engine = SourceEngine(memory_checkpoint(weights), EngineSettings(source="embedding"))
    engine.unembedding.hold()
    engine.sources.hold(0)
    return engine


def near_ties(seed=0, copies=120):
    """A model whose tokens are many almost equal copies, so that bfloat16 cannot tell them apart."""
    w = memory_weights(SHAPE, seed=seed)
    g = torch.Generator().manual_seed(seed)
    for table in (w.E, w.U):
        table[:] = table[: 6000 // copies].repeat(copies, 1) * (1 + 1e-4 * torch.randn(6000, 1, generator=g))
        table += 1e-5 * torch.randn(table.shape, generator=g)
    return w


def assert_same_lists(one, other):
    """Equal values, and equal ids but for entries closer than float32's own rounding."""
    torch.testing.assert_close(one[0], other[0], rtol=2e-6, atol=1e-5)
    differ = one[1] != other[1]
    close = (one[0][..., 1:] - one[0][..., :-1]).abs() < 1e-5 * one[0].abs().max()
    tied = torch.zeros_like(differ)
    tied[..., 1:] |= close
    tied[..., :-1] |= close
    assert not (differ & ~tied).any()


@pytest.mark.parametrize("make", [lambda: memory_weights(SHAPE), near_ties], ids=["random", "near ties"])
def test_lists_equal_float32(make):
    engine = engine_of(make())
    scan = LowPrecisionScan(engine.unembedding)
    for layer in range(2):
        circuit = engine.circuit(layer)
        sigma, ids = scan.salient_tokens(circuit, top=20, allowed=None)
        exact_sigma, exact_ids = salient_tokens(circuit, top=20)
        assert_same_lists((sigma, ids), (exact_sigma, exact_ids))
        written = torch.cat([circuit.written(h, ids[h]) for h in range(6)])
        low = scan.top_targets(written, targets=5, allowed=None)
        full = top_targets(written, engine.unembedding, targets=5)
        for one, other in zip(low, full, strict=True):
            assert_same_lists(one, other)


def test_near_ties_are_noticed():
    """Where candidates cannot be told apart the scan must have done extra work, or its proof is empty."""
    engine = engine_of(near_ties())
    scan = LowPrecisionScan(engine.unembedding)
    circuit = engine.circuit(0)
    _, ids = scan.salient_tokens(circuit, top=20, allowed=None)
    scan.top_targets(circuit.written(0, ids[0]), targets=5, allowed=None)
    assert scan.widened_rows > 0
    assert scan.widened_lists > 0


@pytest.mark.parametrize("seed", range(4))
def test_upper_saliences_are_upper_bounds_and_close(seed):
    engine = engine_of(memory_weights(SHAPE, seed=seed))
    scan = LowPrecisionScan(engine.unembedding)
    circuit = engine.circuit(1)
    upper = scan._upper_saliences(circuit)
    true = circuit.salience(slice(0, 6000)).T
    assert (upper >= true).all()
    assert ((upper - true) / true.mean()).median() < 0.1


def test_error_norms_are_those_of_the_matrices():
    circuit = engine_of(memory_weights(SHAPE)).circuit(0)
    low_value, low_factors = circuit.heads.value.bfloat16(), circuit.factors.bfloat16()
    error = _SalienceError(circuit.heads.value, low_value, circuit.factors, low_factors, circuit.heads.group)
    wr, dwr, dr, r = error._norms
    for h in range(6):
        exact_wr = torch.linalg.matrix_norm(circuit.heads.value[h // 3] @ circuit.heads.output[h], 2).item()
        exact_r = torch.linalg.matrix_norm(circuit.heads.output[h], 2).item()
        assert exact_wr <= wr[h].item() < 1.1 * exact_wr
        assert exact_r <= r[h].item() < 1.1 * exact_r
    assert (dwr < 0.01 * wr).all()
    assert (dr < 0.01 * r).all()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_largest_eigenvalue_is_bounded_from_above(scale):
    m = torch.randn(7, 5, 90, 64) * scale
    grams = m.mT @ m
    exact = torch.linalg.eigvalsh(grams.double())[..., -1]
    ratio = _largest_eigenvalues(grams).double() / exact
    assert (ratio >= 1).all()
    assert (ratio < 64 ** (1 / 32) * 1.001).all()
    assert (_largest_eigenvalues(torch.zeros(2, 8, 8)) < 1e-20).all()


def test_value_biases_are_part_of_the_bounds():
    """A folded bias moves every value, and moves short rows of X most."""
    w = memory_weights(SHAPE)
    w.E.mul_(torch.linspace(0.05, 3, 6000).unsqueeze(-1))
    engine = engine_of(w)
    circuit = engine.circuit(0)
    heads = replace(circuit.heads, value_bias=2 * torch.randn(2, 16))
    circuit = replace(circuit, heads=heads)
    scan = LowPrecisionScan(engine.unembedding)
    assert (scan._upper_saliences(circuit) >= circuit.salience(slice(0, 6000)).T).all()
    assert_same_lists(scan.salient_tokens(circuit, top=20, allowed=None), salient_tokens(circuit, top=20))


def test_candidates_grow_where_many_rows_need_more():
    engine = engine_of(near_ties(copies=20))
    scan, written = LowPrecisionScan(engine.unembedding), engine.circuit(0).written(0, torch.arange(200))
    widened = []
    for _ in range(4):
        before = scan.widened_rows
        scan.top_targets(written, targets=5, allowed=None)
        widened.append(scan.widened_rows - before)
    assert widened[0] > widened[-1]


def test_tables_in_bfloat16_lose_nothing_and_are_not_read_again():
    w = memory_weights(SHAPE)
    for table in (w.E, w.U):
        table.copy_(table.bfloat16().float())
    engine = engine_of(w)
    scan, circuit = LowPrecisionScan(engine.unembedding), engine.circuit(0)
    assert scan.targets.table.is_exact
    assert scan._sources(circuit).is_exact
    assert not LowPrecisionScan(engine_of(memory_weights(SHAPE)).unembedding).targets.table.is_exact
    sigma, ids = scan.salient_tokens(circuit, top=20, allowed=None)
    assert_same_lists((sigma, ids), salient_tokens(circuit, top=20))
    written = circuit.written_by_all(ids).flatten(0, 1)
    full = top_targets(written, engine.unembedding, targets=5)
    engine.unembedding.rows = None  # whoever asks for a row now fails
    for one, other in zip(scan.top_targets(written, targets=5, allowed=None), full, strict=True):
        assert_same_lists(one, other)


def test_entries_with_all_their_rounding_stay_below_their_bounds():
    """Cancelling terms: the entry is tiny beside what is summed, so only the sums' own loss covers it."""
    g = torch.Generator().manual_seed(3)
    half = torch.randn(400, 512, generator=g).bfloat16().float()
    w = memory_weights(replace(SHAPE, d_model=1024, vocab_size=400))
    w.U[:] = torch.cat([half, -half * (1 + 2.0**-7)], 1).bfloat16().float()
    engine = engine_of(w)
    scan = LowPrecisionScan(engine.unembedding)
    written = torch.cat([half[:40], half[:40]], 1) * 1000
    low = scan.top_targets(written, targets=5, allowed=None)
    for one, other in zip(low, top_targets(written, engine.unembedding, targets=5), strict=True):
        torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=2e-2)
    assert scan.targets.table.is_exact


def test_what_is_lost_counts_however_small():
    """Squares of what tiny rows lose are zero in float32; the rows are still not exact."""
    assert not _Rounded.of(torch.full((2, 8), 1.001e-25)).is_exact
    assert _Rounded.of(torch.full((2, 8), 1.001e-25).bfloat16().float()).is_exact


@pytest.mark.parametrize("size", [1, 63, 64, 130, 4099])
def test_vocabularies_that_are_no_whole_number_of_blocks(size):
    weights = memory_weights(replace(SHAPE, vocab_size=size))
    engine = engine_of(weights)
    scan = LowPrecisionScan(engine.unembedding)
    circuit, top = engine.circuit(0), min(5, size)
    low = scan.salient_tokens(circuit, top=top, allowed=None)
    assert_same_lists(low, salient_tokens(circuit, top=top))
    written = circuit.written_by_all(low[1]).flatten(0, 1)
    for one, other in zip(
        scan.top_targets(written, targets=top, allowed=None),
        top_targets(written, engine.unembedding, targets=top),
        strict=True,
    ):
        assert_same_lists(one, other)


def test_a_zero_row_and_too_few_allowed_tokens():
    w = memory_weights(SHAPE)
    w.E[7] = 0
    engine = engine_of(w)
    scan = LowPrecisionScan(engine.unembedding)
    allowed = torch.zeros(6000, dtype=torch.bool)
    allowed[[7, 8, 9]] = True
    sigma, ids = scan.salient_tokens(engine.circuit(0), top=3, allowed=allowed)
    assert sorted(ids[0].tolist()) == [7, 8, 9]
    assert sigma[0, -1] == 0
    more, _ = scan.salient_tokens(engine.circuit(0), top=5, allowed=allowed)
    assert (more[:, 3:] == -1).all()
    assert (more[:, :3] == sigma).all()
    (values, found), _ = scan.top_targets(engine.circuit(0).written(0, ids[0]), targets=5, allowed=allowed)
    assert torch.isinf(values[:, 3:]).all()
    assert set(found[1, :3].tolist()) == {7, 8, 9}
