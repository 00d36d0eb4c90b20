"""Null heads: the same spectra and sizes, other directions, and everything else of the model untouched."""

from __future__ import annotations

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.null_heads import NullWeights, null_checkpoint
from maps_engine.results import EngineSettings
from tests.support.tiny_models import FAMILIES, tiny_model


def products(checkpoint, layer: int) -> torch.Tensor:
    """(H, d, d): W_V W_O of every head of a layer."""
    weights, shape = checkpoint.weights.attention(layer), checkpoint.weights.shape
    value = torch.stack([weights.value[shape.value_head_of(h)] for h in range(shape.n_heads)])
    return value @ weights.output


@pytest.mark.parametrize("family", FAMILIES)
def test_every_head_keeps_its_spectrum_and_turns(tmp_path, family):
    real = open_checkpoint(str(tiny_model(family, tmp_path / "model")[0]), device="cpu")
    null = null_checkpoint(real)
    for layer in range(real.weights.shape.n_layers):
        own, turned = products(real, layer), products(null, layer)
        assert turned.shape == own.shape
        spectra = (torch.linalg.svdvals(one.double()) for one in (own, turned))
        torch.testing.assert_close(*spectra, rtol=1e-3, atol=1e-5)
        alike = torch.cosine_similarity(own.flatten(1), turned.flatten(1), dim=1).abs()
        assert alike.max() < 0.5
        before, after = real.weights.attention(layer), null.weights.attention(layer)
        assert (before.value_bias is None) == (after.value_bias is None)
        assert (after.value.dtype, after.output.dtype) == (before.value.dtype, before.output.dtype)
    assert torch.equal(null.weights.unembedding(slice(None)), real.weights.unembedding(slice(None)))


def test_heads_of_a_layer_stay_to_each_other_as_they_were(tmp_path):
    real = open_checkpoint(str(tiny_model("llama", tmp_path / "model")[0]), device="cpu")
    own, turned = products(real, 1), products(null_checkpoint(real), 1)
    for one in (own, turned):
        one /= one.flatten(1).norm(dim=1)[:, None, None]
    torch.testing.assert_close(
        torch.einsum("hij,gij->hg", own, own), torch.einsum("hij,gij->hg", turned, turned), rtol=1e-3, atol=1e-4
    )


def test_seeds_and_layers_differ_and_the_same_seed_is_the_same(tmp_path):
    real = open_checkpoint(str(tiny_model("llama", tmp_path / "model")[0]), device="cpu")
    first, again, other = (null_checkpoint(real, seed=seed).weights.attention(0).value for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_x_is_that_of_the_real_model(tmp_path):
    real = open_checkpoint(str(tiny_model("llama", tmp_path / "model")[0]), device="cpu")
    engines = [MapsEngine(one, EngineSettings("residual")) for one in (real, null_checkpoint(real))]
    ids = torch.tensor([3, 9, 40])
    rows = [engine.at("residual").sources.rows(1, ids) for engine in engines]
    assert torch.equal(*rows)
    assert engines[0].map_head(1, 0).rows != engines[1].map_head(1, 0).rows


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "bloom"])
def test_queries_and_keys_are_those_of_turned_streams(family: str, tmp_path) -> None:
    real = open_checkpoint(str(tiny_model(family, tmp_path / "model")[0]), device="cpu").weights
    null, same, other = (NullWeights(real, seed) for seed in (0, 0, 1))
    hidden = torch.randn(2, 7, real.shape.d_model, generator=torch.Generator().manual_seed(0))
    found = null.queries_keys(1, hidden, behind=3)
    assert torch.equal(found.queries, same.queries_keys(1, hidden, behind=3).queries)
    frames = null.frames(1, hidden)
    for frame in frames:
        torch.testing.assert_close(frame @ frame.T, torch.eye(len(frame)), atol=1e-5, rtol=1e-5)
    queries, keys = (real.queries_keys(1, hidden @ frame, behind=3) for frame in frames)
    assert torch.equal(found.queries, queries.queries)
    assert torch.equal(found.keys, keys.keys)
    for its in (one.queries_keys(1, hidden, behind=3) for one in (other, real)):
        assert not torch.allclose(found.queries, its.queries)
        assert not torch.allclose(found.keys, its.keys)
