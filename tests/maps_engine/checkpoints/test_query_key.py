"""W_Q and W_K of every family against the queries and keys of transformers' own attention."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import BrokenCheckpoint
from tests.support.spoiling import rewrite
from tests.support.tiny_models import FAMILIES, tiny_model

NORMED = ("qwen3", "gemma3-text", "olmo2", "olmo3", "cohere", "phi-2-full-heads", "stablelm-parallel")


def without_biases(model: nn.Module) -> None:
    """Biases are no part of W_Q and W_K, and behind them nothing else is left that is not linear in the input."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()


def scales(ours: Tensor, theirs: Tensor) -> Tensor:
    """(heads, n): theirs by ours, vector by vector; they must have one direction."""
    cosine = torch.nn.functional.cosine_similarity(ours, theirs, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-5)
    return theirs.norm(dim=-1) / ours.norm(dim=-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_queries_and_keys_are_the_stream_through_the_matrices(family: str, tmp_path: Path) -> None:
    """At place 0 rotary embeddings turn nothing. A norm on queries and keys divides by a number at each place."""
    folder, model = tiny_model(family, tmp_path / "model")
    without_biases(model)
    model.save_pretrained(folder)
    weights = open_checkpoint(str(folder)).weights
    hidden = torch.randn(5, 1, weights.shape.d_model, generator=torch.Generator().manual_seed(2))
    for layer in range(weights.shape.n_layers):
        norm, own, read = weights.attention_norm(layer), weights.query_key(layer), weights.queries_keys(layer, hidden)
        rows = hidden[:, 0] if norm is None else norm(hidden[:, 0])
        for ours, theirs in ((own.query, read.queries), (own.key, read.keys)):
            theirs = theirs.transpose(0, 1).squeeze(2)  # (heads, n, d_h)
            made = (rows @ ours).repeat_interleave(len(theirs) // len(ours), dim=0)
            by = scales(made, theirs)
            if family.startswith("olmo2") or family == "olmo3":  # all heads are divided together
                torch.testing.assert_close(by, by[:1].expand_as(by))
            elif family not in NORMED:  # OPT scales queries, GPT-OSS both: a number that is the same everywhere
                torch.testing.assert_close(by, by[0, 0].expand_as(by))


def test_sizes_and_value_heads(tmp_path: Path) -> None:
    weights = open_checkpoint(str(tiny_model("llama", tmp_path / "model")[0])).weights
    own = weights.query_key(1)
    assert own.query.shape == (4, 32, 8)
    assert own.key.shape == (2, 32, 8)


def test_a_missing_matrix_is_said(copy: Path) -> None:
    rewrite(copy, lambda tensors: {name: one for name, one in tensors.items() if "k_proj" not in name})
    with pytest.raises(BrokenCheckpoint, match="k_proj"):
        open_checkpoint(str(copy)).weights.query_key(0)
