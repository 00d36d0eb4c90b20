"""transformers' modules with weights from our reader: the whole model, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel
from tests.support.tiny_models import FAMILIES, tiny_model

IDS = torch.tensor([[1, 5, 9, 2]])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_model_runs_as_transformers_opens_it(family: str, tmp_path: Path) -> None:
    folder, _ = tiny_model(family, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    ours = open_checkpoint(str(folder)).weights.running(dtype=torch.float32, attention="eager")
    assert torch.allclose(ours(IDS).logits, theirs(IDS).logits, atol=1e-5, rtol=1e-4)


def test_a_block_gives_its_memory_back(tmp_path: Path) -> None:
    weights = open_checkpoint(str(tiny_model("llama", tmp_path / "model")[0])).weights
    stream = weights.residuals(torch.tensor([1, 2]), (0,))
    stream.advance()
    empty = stream._model.empty
    assert all(one.is_meta for block in empty.blocks for one in block.parameters())


@pytest.mark.parametrize("absent", ["self_attn.q_proj", "mlp.experts.1.w3", "mlp.gate"])
def test_a_tensor_that_is_missing_is_named(absent: str, tmp_path: Path) -> None:
    """Queries and routers are not among what the maps need, so that opening does not ask for them."""
    from safetensors.torch import load_file, save_file

    folder, _ = tiny_model("mixtral", tmp_path / "model")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = absent.replace("mlp.", "block_sparse_moe.")
    gone = f"model.layers.1.{name}.weight"
    assert gone in tensors
    save_file({one: tensor for one, tensor in tensors.items() if one != gone}, file)
    stream = open_checkpoint(str(folder)).weights.residuals(torch.tensor([1]), (0,))
    stream.advance()
    with pytest.raises(BrokenCheckpoint, match=r"layers\.1"):
        stream.advance()


def test_a_configuration_that_transformers_refuses_is_one_line(tmp_path: Path) -> None:
    folder, _ = tiny_model("llama", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rope_parameters": {"rope_type": "sideways"}}))
    with pytest.raises(UnsupportedModel, match="--source"):
        open_checkpoint(str(folder)).weights.residuals(torch.tensor([1]), (0,))


def test_experts_in_4_bits_are_refused(tmp_path: Path) -> None:
    """As the published files of gpt-oss have them; what the maps read is there in bfloat16."""
    from safetensors.torch import load_file, save_file

    folder, _ = tiny_model("gpt-oss", tmp_path / "model")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.0.mlp.experts.down_proj"
    save_file({**{k: v for k, v in tensors.items() if k != name}, f"{name}_blocks": tensors[name].byte()}, file)
    stream = open_checkpoint(str(folder)).weights.residuals(torch.tensor([1]), (0,))
    with pytest.raises(UnsupportedModel, match="4 bits"):
        stream.advance()


def test_position_embeddings_that_are_missing_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder, _ = tiny_model("gpt2", tmp_path / "model")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor for name, tensor in tensors.items() if not name.endswith("wpe.weight")}, file)
    with pytest.raises(BrokenCheckpoint, match="wpe"):
        open_checkpoint(str(folder)).weights.residuals(torch.tensor([1]), (0,))
