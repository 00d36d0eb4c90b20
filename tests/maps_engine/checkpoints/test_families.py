"""Every family: what our weights compute for one token equals the model's own forward pass, all layers, all heads."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.checkpoints.weights import FamilyWeights
from maps_engine.errors import UnsupportedModel
from tests.support.forward_pass import OneTokenRun, Places, run_one_token, without_positions
from tests.support.tiny_models import FAMILIES, MIXTURES, ROWS, tiny_model


@dataclass
class Opened:
    weights: FamilyWeights
    places: Places
    run: OneTokenRun


_opened: dict[str, Opened] = {}


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def opened(family, tmp_path_factory) -> Opened:
    """One checkpoint and one forward pass per family, shared by the tests of this file."""
    if family not in _opened:
        folder, model = tiny_model(family, tmp_path_factory.mktemp(family))
        without_positions(model)
        weights = open_checkpoint(str(folder), device="cpu").weights
        places = Places(family, model)
        _opened[family] = Opened(weights, places, run_one_token(places, ROWS))
    return _opened[family]


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest entry."""
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 1e-3, "nothing to compare"
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def contributions(weights: FamilyWeights, layer: int, x: torch.Tensor) -> torch.Tensor:
    """(H, V, d): (norm(x) W_V + b_V) W_O of every head."""
    attention, norm, shape = weights.attention(layer), weights.attention_norm(layer), weights.shape
    read = x if norm is None else norm(x)
    heads = []
    for head in range(shape.n_heads):
        value_head = shape.value_head_of(head)
        value = read @ attention.value[value_head]
        if attention.value_bias is not None:
            value = value + attention.value_bias[value_head]
        heads.append(value @ attention.output[head])
    return torch.stack(heads)


def test_every_head_contributes_what_the_model_computes(opened):
    width = opened.weights.shape.d_head
    for layer in range(opened.weights.shape.n_layers):
        ours = contributions(opened.weights, layer, opened.run.block_input[layer])
        matrix = opened.places.output_matrix(layer)
        for head in range(opened.weights.shape.n_heads):
            part = slice(head * width, (head + 1) * width)
            theirs = opened.run.heads[layer][:, part] @ matrix[part]
            weight = opened.run.attention_weight[layer][:, head, None]  # below 1 only with attention sinks
            close(ours[head] * weight, theirs)


def test_heads_and_output_bias_sum_to_the_attention(opened):
    for layer in range(opened.weights.shape.n_layers):
        weight = opened.run.attention_weight[layer].T[..., None]
        whole = (contributions(opened.weights, layer, opened.run.block_input[layer]) * weight).sum(0)
        bias = opened.weights.output_bias(layer)
        close(whole if bias is None else whole + bias, opened.run.attention[layer])


def test_embedding_is_what_enters_block_0(opened):
    close(opened.weights.embedding(slice(None)), opened.run.block_input[0])


def test_unembedding_is_the_models(opened, family):
    theirs = opened.places.model.get_output_embeddings().weight.detach()
    if family == "opt-350m":
        theirs = theirs @ opened.places.model.model.decoder.project_out.weight.detach()
    close(opened.weights.unembedding(slice(None)), theirs)


def test_final_norm_and_unembedding_give_the_models_ranking(opened):
    """Logit biases, caps and scales aside: all are constant per target or monotone."""
    x, norm = opened.run.block_output[-1], opened.weights.final_norm()
    ours = (x if norm is None else norm(x)) @ opened.weights.unembedding(slice(None)).T
    head = opened.places.model.get_output_embeddings()
    with torch.no_grad():
        theirs = opened.places.model(torch.arange(ROWS)[:, None], use_cache=False).logits[:, 0]
    config = opened.places.model.config
    cap = getattr(config, "final_logit_softcapping", None)
    if cap:
        theirs = torch.atanh((theirs / cap).clamp(-1 + 1e-7, 1 - 1e-7)) * cap
        close(torch.tanh(ours / cap), torch.tanh(theirs / cap))
        return
    if head.bias is not None:
        theirs = theirs - head.bias.detach()
    close(ours, theirs / getattr(config, "logit_scale", 1.0))


def test_first_mlp_is_the_models(opened, family):
    x = opened.weights.embedding(slice(None))
    if family in MIXTURES:
        with pytest.raises(UnsupportedModel, match=r"no single MLP.*--source residual or embedding"):
            opened.weights.first_mlp(x)
        return
    with torch.no_grad():
        close(opened.weights.first_mlp(x), opened.places.first_mlp(x))


def test_post_attention_norm_only_where_the_block_has_one(opened, family):
    norm = opened.weights.post_attention_norm(0)
    assert (norm is not None) == (family in ("gemma2", "gemma3-text", "olmo2", "olmo3"))
    if norm is not None:
        theirs = opened.places.blocks[0].post_attention_layernorm(opened.run.attention[0]).detach()
        close(norm(opened.run.attention[0]), theirs)


def test_rows_alone_equal_rows_of_the_whole(opened):
    ids = torch.tensor([7, 0, 103, 7])
    for rows in (opened.weights.embedding, opened.weights.unembedding):
        whole = rows(slice(None))
        torch.testing.assert_close(rows(ids), whole[ids])
        torch.testing.assert_close(rows(slice(10, 30)), whole[10:30])


def test_shape_counts_what_the_model_has(opened, family):
    shape = opened.weights.shape
    assert shape.vocab_size == ROWS
    assert shape.n_layers == 2
    assert shape.n_heads * shape.d_head == opened.places.output_matrix(0).shape[0]
    assert shape.d_model == opened.places.output_matrix(0).shape[1]
    assert shape.n_heads % shape.n_value_heads == 0
