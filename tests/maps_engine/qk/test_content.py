"""Scores of words wherever they stand: the mean of the model's own logits over offsets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.qk.content import OFFSETS, PLACE, Content, content
from tests.support.tiny_models import tiny_model

ROTARY = ("llama", "gpt-neox", "gpt-j", "gemma2", "qwen3", "phi", "olmo2", "cohere", "gpt-oss", "bloom")


@pytest.mark.parametrize("family", ROTARY)
def test_scores_are_mean_logits_over_offsets(family: str, tmp_path) -> None:
    places = {"n_positions": PLACE + 8} if family == "gpt-j" else {}
    weights = open_checkpoint(str(tiny_model(family, tmp_path / "model", **places)[0])).weights
    words = weights.residuals(torch.arange(20, 80), (0,)).rows.clone()
    read = content(weights, 1, words)
    query, key = 4, 9
    text = words[[key] * PLACE + [query]].unsqueeze(0)
    plain = replace(weights.queries_keys(1, text), softcap=None, added=None).logits()
    wanted = torch.stack([plain[0, :, PLACE, PLACE - offset] for offset in OFFSETS]).mean(dim=0)
    found = (read.queries[:, query] * read.keys[:, key]).sum(dim=1)
    assert read.queries.shape == (weights.shape.n_heads, len(words), read.keys.shape[-1])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_the_spread_and_the_popular_part_by_the_plain_formula() -> None:
    chance = torch.Generator().manual_seed(1)
    read = Content(*(torch.randn(3, 20, 4, generator=chance) + 1 for _ in range(2)))
    scores = read.queries @ read.keys.transpose(1, 2)
    popular = scores.mean(dim=1) - scores.mean(dim=(1, 2)).unsqueeze(1)
    torch.testing.assert_close(read.popularity, popular)
    own = scores - scores.mean(dim=1, keepdim=True) - scores.mean(dim=2, keepdim=True) + scores.mean((1, 2), True)
    torch.testing.assert_close(read.centred.queries @ read.centred.keys.transpose(1, 2), own, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read.spread, own.std(dim=(1, 2), correction=0))


def test_keys_of_no_length_are_no_trouble() -> None:
    read = Content(torch.zeros(1, 5, 4), torch.zeros(1, 5, 4))
    assert read.spread.tolist() == [0.0]
    assert read.popularity.isfinite().all()
