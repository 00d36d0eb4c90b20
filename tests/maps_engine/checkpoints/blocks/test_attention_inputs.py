"""Queries and keys against the logits that the model itself gives its softmax: every family, every layer and head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

from maps_engine.checkpoints.opening import open_checkpoint
from tests.support.tiny_models import FAMILIES, ROWS, tiny_model

N = 12  # tokens of a text
WINDOW = {"sliding_window": 5}


class _Softmaxes(TorchFunctionMode):
    """Writes down what each softmax over keys is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.softmax and args[0].dim() == 4:
            self.given.append(args[0])
        if func is torch.nn.functional.scaled_dot_product_attention:
            q, k, mask = args[0], args[1], kwargs["attn_mask"]
            later = torch.ones(N, N, dtype=torch.bool).triu(1)
            product = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # as torch documents it
            biased = product if mask is None or mask.dtype == torch.bool else product + mask
            self.given.append(biased.masked_fill(later, -torch.inf))  # Falcon has no window
        return func(*args, **(kwargs or {}))


def run(model: nn.Module, ids: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What reaches each block (b, n, d), and the logits (b, H, n, n or n + 1) of each layer."""
    blocks = next(one for one in model.modules() if isinstance(one, nn.ModuleList))
    hidden: list[Tensor] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda _, args: hidden.append(args[0]))
    with _Softmaxes() as seen:
        model(input_ids=ids)
    return hidden, seen.given


WINDOWS = ("mistral", "mixtral", "gemma2", "gemma3-text", "cohere2", "olmo3", "gpt-oss")


@pytest.mark.parametrize(
    ("family", "settings"), [*((one, {}) for one in FAMILIES), *((one, WINDOW) for one in WINDOWS)]
)
def test_logits_are_the_models_own(family: str, settings: dict[str, int], tmp_path: Path) -> None:
    folder, model = tiny_model(family, tmp_path / "model", **settings)
    if family.startswith("falcon"):  # transformers' eager attention of Falcon adds ALiBi twice
        model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.randint(1, ROWS, (3, N), generator=torch.Generator().manual_seed(0))
    hidden, wanted = run(model, ids)
    weights = open_checkpoint(str(folder)).weights
    for layer in range(weights.shape.n_layers):
        found = weights.queries_keys(layer, hidden[layer])
        ours, theirs = found.logits(), wanted[layer]
        assert ours.shape == (3, weights.shape.n_heads, N, N)
        if found.sinks is not None:  # stands last, and the greatest logit is taken off
            ours = torch.cat([ours, found.sinks.view(1, -1, 1, 1).expand(3, -1, N, 1)], dim=-1)
            ours = ours - ours.max(dim=-1, keepdim=True).values
        unseen = theirs < -1e9
        assert torch.equal(ours == -torch.inf, unseen)
        assert torch.allclose(ours[~unseen], theirs[~unseen], atol=1e-4 * theirs[~unseen].abs().max().item())


@pytest.mark.parametrize("family", ["llama", "gpt-j", "gpt-neox", "qwen3", "cohere", "smollm3", "phi"])
def test_places_behind_others_are_those_of_the_end_of_a_text(family: str, tmp_path: Path) -> None:
    """Queries and keys of the last tokens, read by themselves, are those of the whole text."""
    weights = open_checkpoint(str(tiny_model(family, tmp_path / "model")[0])).weights
    hidden = torch.randn(2, N, weights.shape.d_model, generator=torch.Generator().manual_seed(1))
    whole, end = weights.queries_keys(1, hidden), weights.queries_keys(1, hidden[:, 7:], behind=7)
    assert torch.allclose(end.queries, whole.queries[:, :, 7:], atol=1e-5)
    assert torch.allclose(end.keys, whole.keys[:, :, 7:], atol=1e-5)
