"""An accelerator gives the processor's numbers, in float32 and through the bfloat16 scan."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maps_engine.engine import MapsEngine
from maps_engine.model import ModelShape
from maps_engine.ov.pair_scores import PairSet
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.results import EngineSettings
from tests.support.memory_model import memory_checkpoint, memory_weights
from tests.support.tiny_models import tiny_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
FAMILIES = ["llama", "gpt2", "gpt-neox", "gemma2", "falcon-7b", "opt", "bloom", "phi3"]
PAIRS = [PairSet((3, 9, 20, 31), ((5,), (7, 8), (40,), (41,)), 10)]


def engines(folder, **settings):
    return [
        MapsEngine.open(str(folder), settings=EngineSettings(top=8, targets=4, **settings), device=d, precision=p)
        for d, p in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16"))
    ]


def assert_equal_mappings(here, there):
    for one, other in zip(here, there, strict=True):
        for row, twin in zip(one.rows + one.suppressed_rows, other.rows + other.suppressed_rows, strict=True):
            assert row.salience == pytest.approx(twin.salience, rel=1e-4)
            scores, theirs = ([t.score for t in r.targets] for r in (row, twin))
            if row.token_id == twin.token_id:  # else two tokens of equal salience changed places
                assert scores == pytest.approx(theirs, rel=1e-3, abs=1e-5)
        same = [r.token_id == t.token_id for r, t in zip(one.rows, other.rows, strict=True)]
        assert sum(same) >= len(same) - 2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("source", ["embedding", "first-mlp"])
def test_mappings_of_all_heads(family, source, tmp_path):
    folder, _ = tiny_model(family, tmp_path)
    here, *there = (list(engine.map_heads()) for engine in engines(folder, source=source))
    for mappings in there:
        assert_equal_mappings(here, mappings)


@pytest.mark.parametrize("fold", ["fold_norms", "fold_biases"])
def test_folded_mappings_and_one_head_alone(fold, tmp_path):
    folder, _ = tiny_model("gpt2", tmp_path)
    here, *there = engines(folder, source="embedding", **{fold: True})
    for engine in there:
        assert_equal_mappings(list(here.map_heads()), list(engine.map_heads()))
        assert_equal_mappings([here.map_head(1, 2)], [engine.map_head(1, 2)])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_relation_scores(family, tmp_path):
    folder, _ = tiny_model(family, tmp_path)
    here, there, _ = engines(folder, source="embedding")
    (one,), (other,) = (engine.score_pairs(PAIRS, source="embedding") for engine in (here, there))
    assert torch.equal(one.score.cpu(), other.score.cpu())
    assert torch.equal(one.suppression.cpu(), other.suppression.cpu())


def test_the_scan_widens_where_tokens_are_almost_copies():
    """Thousands of near ties: bfloat16 alone would rank them wrongly on any device."""
    weights = memory_weights(ModelShape(2, 6, 2, 64, 16, 6000))
    for table in (weights.E, weights.U):
        table[:] = table[:50].repeat(120, 1) * (1 + 1e-4 * torch.randn(6000, 1))
    here = SourceEngine(memory_checkpoint(weights), EngineSettings(source="embedding"), "float32")
    tensors = {name: t.cuda() for name, t in vars(weights).items() if isinstance(t, torch.Tensor)}
    moved = replace(weights, device=torch.device("cuda"), **tensors)
    there = SourceEngine(memory_checkpoint(moved), EngineSettings(source="embedding"), "bfloat16")
    for one, other in zip(here.map_layer(1), there.map_layer(1), strict=True):
        for row, twin in zip(one.rows, other.rows, strict=True):
            assert row.salience == pytest.approx(twin.salience, rel=1e-5)
    assert there.low_precision.widened_lists > 0
