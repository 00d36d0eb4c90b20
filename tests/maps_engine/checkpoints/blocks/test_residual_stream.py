"""The residual stream against the model's own hidden states: every family, every layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import UnsupportedModel
from maps_engine.model import ModelWeights
from tests.support.hidden_states import hidden_states, passed
from tests.support.tiny_gguf import ARCHITECTURES, write_gguf
from tests.support.tiny_models import FAMILIES, ROWS, tiny_model

LEAD_IN = (3, 5)
UNSAID = {  # attributes that no GGUF file holds, as all published models of the architecture have them
    "smollm3": {"no_rope_layers": [1, 1]},
    "gemma2": {"query_pre_attn_scalar": 256},
    "gemma3-text": {"query_pre_attn_scalar": 256},
}


def streamed(weights: ModelWeights, ids: Tensor) -> list[Tensor]:
    """What reaches each block, and what leaves the last one."""
    return passed(weights.residuals(ids, LEAD_IN), weights.shape.n_layers)


def last_states(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """The same from whole sequences through the whole model."""
    whole = torch.cat([torch.tensor(LEAD_IN).expand(len(ids), -1), ids[:, None]], dim=1)
    return [one[:, -1] for one in hidden_states(model, whole)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_is_given_what_the_whole_model_gives_it(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maps_engine.checkpoints.blocks.residual_stream.BATCH", 40)  # of two sizes
    folder, _ = tiny_model(family, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)  # the usual attention: eager Falcon adds ALiBi twice
    ids = torch.arange(ROWS)
    found, wanted = streamed(open_checkpoint(str(folder)).weights, ids), last_states(model, ids)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_gguf_file_streams_as_the_folder_does(family: str, tmp_path: Path) -> None:
    """Queries, keys, positions and all that the maps alone never read are put back as transformers has them."""
    folder, model = tiny_model(family, tmp_path / "folder", **UNSAID.get(family, {}))
    file = write_gguf(family, model, tmp_path / "model.gguf")
    ids = torch.arange(ROWS)
    ours, theirs = (streamed(open_checkpoint(str(path)).weights, ids) for path in (file, folder))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * other.abs().max().item())


LONG = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def test_rotary_factors_of_a_gguf_file_are_taken_in(tmp_path: Path) -> None:
    """Llama 3.1: llama.cpp keeps as a tensor what each frequency is divided by."""
    folder, model = tiny_model("llama", tmp_path / "folder", rope_parameters=LONG)
    scaled = model.model.rotary_emb.inv_freq
    plain = 1 / 10000 ** (torch.arange(len(scaled)) / len(scaled))
    assert (plain / scaled).max() > 2
    file = write_gguf("llama", model, tmp_path / "m.gguf", vectors={"rope_freqs.weight": (plain / scaled).numpy()})
    ids = torch.arange(ROWS)
    ours, theirs = (streamed(open_checkpoint(str(path)).weights, ids) for path in (file, folder))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * other.abs().max().item())


def test_rotary_factors_of_two_lengths_are_refused(tmp_path: Path) -> None:
    _, model = tiny_model("phi3", tmp_path / "folder")
    file = write_gguf("phi3", model, tmp_path / "m.gguf", vectors={"rope_factors_short.weight": np.ones(4, np.float32)})
    weights = open_checkpoint(str(file)).weights
    assert weights.attention(1).value.isfinite().all()  # the maps need none
    with pytest.raises(UnsupportedModel, match="rotary factors"):
        weights.residuals(torch.tensor([1]), LEAD_IN)
