"""Mappings and relation scores against the plain formulas of docs/method.md, written out with whole matrices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.errors import BrokenCheckpoint, OutOfRange, UserMistake
from maps_engine.model import ModelShape
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import EngineSettings
from tests.support.memory_model import memory_checkpoint, memory_weights
from tests.support.tiny_models import tiny_model

SHAPES = {
    "grouped": ModelShape(n_layers=3, n_heads=6, n_value_heads=2, d_model=48, d_head=16, vocab_size=700),
    "full": ModelShape(n_layers=2, n_heads=4, n_value_heads=4, d_model=32, d_head=8, vocab_size=301),
    "one value head": ModelShape(n_layers=2, n_heads=5, n_value_heads=1, d_model=24, d_head=12, vocab_size=5003),
    "wide heads": ModelShape(n_layers=2, n_heads=2, n_value_heads=1, d_model=16, d_head=24, vocab_size=257),
}
SOURCES = ["embedding", "first-mlp"]


def plain_x(w, source, layer):
    return w.E if source == "embedding" or layer == 0 else w.first_mlp(w.E)


def plain_map(w, source, layer, head):
    """M of one head as a V x V matrix, and its salience, as docs/method.md writes them."""
    x = plain_x(w, source, layer)
    w_vo = w.value[layer, head // (w.shape.n_heads // w.shape.n_value_heads)] @ w.output[layer, head]
    return x @ w_vo @ w.U.T, (x @ w_vo).norm(dim=-1) / x.norm(dim=-1)


@pytest.fixture(params=SHAPES)
def weights(request):
    return memory_weights(SHAPES[request.param])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_head_maps_as_the_plain_formula(weights, source, precision):
    settings = EngineSettings(source=source, top=7, targets=4)
    engine = MapsEngine(memory_checkpoint(weights), settings, precision)
    for mapping in engine.map_heads(held_out=3):
        m, sigma = plain_map(weights, source, mapping.layer, mapping.head)
        best = sigma.topk(10)
        rows = [*mapping.rows, *mapping.held_out_rows]
        assert [r.token_id for r in rows] == best.indices.tolist()
        torch.testing.assert_close(torch.tensor([r.salience for r in rows]), best.values, rtol=1e-4, atol=1e-5)
        for row, low in zip(mapping.rows, mapping.suppressed_rows, strict=True):
            promoted, suppressed = m[row.token_id].topk(4), (-m[row.token_id]).topk(4)
            assert [t.token_id for t in row.targets] == promoted.indices.tolist()
            assert [t.token_id for t in low.targets] == suppressed.indices.tolist()
            torch.testing.assert_close(torch.tensor([t.score for t in low.targets]), -suppressed.values)


@pytest.mark.parametrize("source", SOURCES)
def test_one_head_alone_equals_the_same_head_among_all(weights, source):
    checkpoint = memory_checkpoint(weights)
    settings = EngineSettings(source=source, top=9)
    everything = {(m.layer, m.head): m for m in MapsEngine(checkpoint, settings).map_heads()}
    alone = MapsEngine(checkpoint, settings).map_head(1, 1)
    together = everything[1, 1]
    for one, other in zip(alone.rows, together.rows, strict=True):
        assert (one.token_id, [t.token_id for t in one.targets]) == (
            other.token_id,
            [t.token_id for t in other.targets],
        )


def plain_phi(m, pairs, k):
    hit = [any(t in m[s].topk(k).indices.tolist() for t in accepted) for s, accepted in pairs]
    return sum(hit) / len(hit)


@pytest.mark.parametrize("rows_at_once", [50, 2048])
@pytest.mark.parametrize("source", ["embedding", "first-mlp"])
def test_relation_scores_equal_the_plain_formula(weights, source, rows_at_once, monkeypatch):
    monkeypatch.setattr("maps_engine.ov.entry_ranks.ROWS_AT_ONCE", rows_at_once)
    g = torch.Generator().manual_seed(1)
    v = weights.shape.vocab_size
    random_pairs = [(s, (t, (t * 7) % v)) for s, t in torch.randint(v, (60, 2), generator=g).tolist()]
    # targets that some heads do promote, so that scores are not all zero
    m, _ = plain_map(weights, source, 1, 0)
    planted = [(s, (int(m[s].topk(6).indices[s % 6]),)) for s in range(40)]
    planted += [(s, (int((-m[s]).topk(6).indices[s % 6]),)) for s in range(40, 60)]
    sets = [(random_pairs, 10), (planted, 5), (planted, 1), (random_pairs[:7], 25)]
    engine = MapsEngine(memory_checkpoint(weights), EngineSettings(source=source))
    pair_sets = [PairSet(tuple(s for s, _ in p), tuple(t for _, t in p), k) for p, k in sets]
    results = engine.score_pairs(pair_sets, source=source)
    assert results[1].score[1, 0] > 0.3
    assert results[1].suppression[1, 0] > 0.1
    for layer in range(weights.shape.n_layers):
        for head in range(weights.shape.n_heads):
            m, _ = plain_map(weights, source, layer, head)
            for (pairs, k), result in zip(sets, results, strict=True):
                assert result.score[layer, head].item() == pytest.approx(plain_phi(m, pairs, k))
                assert result.suppression[layer, head].item() == pytest.approx(plain_phi(-m, pairs, k))


def test_equal_entries_do_not_push_a_target_out():
    weights = memory_weights()
    weights.U[100:200] = weights.U[100]  # unused tokens often share one row
    m, _ = plain_map(weights, "embedding", 0, 0)
    source = int(m[:, 100].argmax())
    better = int((m[source] > m[source, 100]).sum())
    engine = MapsEngine(memory_checkpoint(weights), EngineSettings(source="embedding"))
    for target in (100, 150, 199):
        inside = engine.score_pairs([PairSet((source,), ((target,),), better + 1)], source="embedding")[0]
        assert inside.score[0, 0] == 1
        if better:
            outside = engine.score_pairs([PairSet((source,), ((target,),), better)], source="embedding")[0]
            assert outside.score[0, 0] == 0


@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("post_norm", [False, True])
def test_folding_equals_the_blocks_real_norms(kind, post_norm):
    """With norms and biases folded, rows of M rank tokens as norm(x) W_V + b_V, W_O, post-norm gain, final norm do."""
    w = memory_weights(kind=kind, post_norm=post_norm)
    settings = EngineSettings(source="embedding", fold_norms=True, fold_biases=True, top=20)
    engine = MapsEngine(memory_checkpoint(w), settings)
    for mapping in engine.map_heads(layers=[1]):
        k = mapping.head // 3
        written = (w.norm(w.E) @ w.value[1, k] + w.value_bias[1, k]) @ w.output[1, mapping.head]
        if post_norm:
            centred = written - written.mean(-1, keepdim=True) if kind == "layer" else written
            written = centred * w.post_norm.gain
        for row in mapping.rows:
            # the final norm of the contribution alone: the same ranks, its own bias aside
            y = w.norm(written[row.token_id : row.token_id + 1] * 1e3)[0]
            y = y - w.norm.bias if w.norm.bias is not None else y
            assert [t.token_id for t in row.targets] == (w.U @ y).topk(5).indices.tolist()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_special_tokens_are_left_out_by_option(precision):
    w = memory_weights()
    w.E[-3:] *= 100
    w.U[-3:] *= 100
    checkpoint = memory_checkpoint(w)
    kept = MapsEngine(checkpoint, EngineSettings(source="embedding")).map_head(0, 0)
    assert {t.token_id for r in kept.rows for t in r.targets} & {697, 698, 699}
    engine = MapsEngine(checkpoint, EngineSettings(source="embedding", include_special=False), precision)
    without = next(engine.map_heads(layers=[0]))
    listed = {t.token_id for r in without.rows for t in r.targets} | {r.token_id for r in without.rows}
    listed |= {t.token_id for r in without.suppressed_rows for t in r.targets}
    assert not listed & {697, 698, 699}


def test_more_rows_than_tokens_gives_all_tokens_once():
    checkpoint = memory_checkpoint()
    settings = EngineSettings(source="embedding", top=690, targets=2, include_special=False)
    mapping = MapsEngine(checkpoint, settings).map_head(0, 0)
    rows = [*mapping.rows, *mapping.held_out_rows]
    assert sorted(r.token_id for r in rows) == list(range(697))


@pytest.mark.parametrize(("layer", "head"), [(3, 0), (0, 6), (-1, 0), (0, -1)])
def test_a_head_outside_the_model_is_refused(layer, head):
    engine = MapsEngine(memory_checkpoint(), EngineSettings(source="embedding"))
    with pytest.raises(OutOfRange, match=r"memory has no (layer|head)"):
        engine.map_head(layer, head)


def test_unknown_source_is_refused():
    with pytest.raises(UserMistake, match="first-mlp"):
        MapsEngine(memory_checkpoint(), EngineSettings(source="second-mlp"))


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_that_are_no_numbers_are_refused(spoilt, precision):
    weights = memory_weights()
    weights.value[1, 0, 3, 5] = spoilt
    weights.output[1] *= 1e10 if spoilt == 1e30 else 1
    engine = MapsEngine(memory_checkpoint(weights), EngineSettings(source="embedding"), precision)
    with pytest.raises(BrokenCheckpoint, match=r"head 1\.[01] of memory"):
        list(engine.map_heads())
    with pytest.raises(BrokenCheckpoint, match=r"head 1\.1 of memory"):
        engine.map_head(1, 1)
    assert engine.map_head(0, 0).rows


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("table", ["E", "U"])
def test_tables_with_a_row_of_no_numbers_are_refused(table, precision):
    weights = memory_weights()
    getattr(weights, table)[77, 3] = float("nan")
    engine = MapsEngine(memory_checkpoint(weights), EngineSettings(source="embedding"), precision)
    with pytest.raises(BrokenCheckpoint, match="not a finite number"):
        list(engine.map_heads())
    with pytest.raises(BrokenCheckpoint, match="not a finite number"):
        engine.map_head(0, 0)


def test_nothing_to_score_and_no_head_to_score_it_on():
    engine = MapsEngine(memory_checkpoint(), EngineSettings(source="embedding"))
    assert engine.score_pairs([], source="embedding") == []
    (empty,) = engine.score_pairs([PairSet((), (), 5)], source="embedding")
    assert empty.score.shape == (3, 6)
    assert empty.score.sum() == empty.suppression.sum() == 0
    (targetless,) = engine.score_pairs([PairSet((3,), ((),), 700)], source="embedding")
    assert targetless.score.sum() == 0


def test_scores_are_read_under_what_was_asked_for_and_else_under_the_truest(tmp_path):
    checkpoint = open_checkpoint(str(tiny_model("llama", tmp_path)[0]), device="cpu")
    for given, asked, read in (
        ("auto", None, "residual"),
        ("auto", "paper", "first-mlp"),
        ("first-mlp", None, "first-mlp"),
        ("paper", "auto", "residual"),
        ("embedding", "residual", "residual"),
    ):
        assert MapsEngine(checkpoint, EngineSettings(given)).for_scores(asked) == read
    large = MapsEngine(checkpoint, EngineSettings("auto"))
    large.settings = replace(large.settings, source="first-mlp")  # what a large model's rows are read under
    assert large.for_scores() == "residual"
