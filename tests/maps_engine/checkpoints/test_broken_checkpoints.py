"""Every broken checkpoint gives one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maps_engine.checkpoints.formats.torch_source import TorchSource
from maps_engine.errors import BrokenCheckpoint, HeadscribeError, UnknownModel, UnsupportedModel, UserMistake
from tests.support.spoiling import opened, rewrite, set_config
from tests.support.tiny_models import tiny_model


def refused(folder: Path, kind: type[HeadscribeError], *words: str, **options) -> None:
    with pytest.raises(kind) as error:
        opened(folder, **options)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_missing_folder_and_file(tmp_path):
    refused(tmp_path / "nowhere", UnknownModel, "no such model", "nowhere")
    refused(tmp_path / "no.gguf", UnknownModel, "no such model", "no.gguf")


def test_empty_folder(tmp_path):
    refused(tmp_path, UnknownModel, "no config.json")


def test_file_that_is_no_checkpoint(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", UnknownModel, "not a checkpoint")


def test_no_weights(copy):
    (copy / "model.safetensors").unlink()
    refused(copy, UnknownModel, "no weights")
    (copy / "model.Q4.gguf").write_bytes(b"GGUF")
    refused(copy, UnknownModel, "--model", "model.Q4.gguf")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_truncated_safetensors(copy, share):
    blob = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(blob[: int(len(blob) * share)])
    refused(copy, BrokenCheckpoint, "model.safetensors is truncated or damaged")


def test_header_that_is_no_json(copy):
    blob = bytearray((copy / "model.safetensors").read_bytes())
    blob[8:12] = b"\xff\x00{{"
    (copy / "model.safetensors").write_bytes(blob)
    refused(copy, BrokenCheckpoint, "unreadable header")


def test_header_that_lies_about_sizes(copy):
    blob = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(blob.replace(b'"shape":[104,32]', b'"shape":[999,32]'))
    with pytest.raises(BrokenCheckpoint, match=r"truncated or damaged|does not have the size|belong together"):
        opened(copy).weights.embedding(slice(0, 2))


@pytest.mark.parametrize("blob", [b"", b"not a pickle", b"\x80\x02cos\nsystem\n(S'true'\ntR."])
def test_bin_that_is_damaged_or_holds_code(copy, blob):
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(blob)
    refused(copy, BrokenCheckpoint, "pytorch_model.bin")


def test_random_damage_to_a_bin_is_always_one_clear_line(copy):
    tensors = load_file(copy / "model.safetensors")
    file = copy / "pytorch_model.bin"
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    blob, random = file.read_bytes(), np.random.default_rng(0)
    refusals = []
    for _ in range(100):
        damaged = bytearray(blob)
        for place in random.integers(16, 3000, 3):
            damaged[place] = random.integers(256)
        file.write_bytes(damaged)
        try:
            TorchSource(file)
        except HeadscribeError as error:
            refusals.append(str(error))
    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


def test_bin_that_holds_a_list(copy):
    (copy / "model.safetensors").unlink()
    torch.save([1, 2], copy / "pytorch_model.bin")
    refused(copy, BrokenCheckpoint, "no checkpoint", "list")


def test_missing_tensors_are_counted_and_named(copy):
    rewrite(copy, lambda tensors: {name: t for name, t in tensors.items() if "v_proj" not in name})
    refused(copy, BrokenCheckpoint, "lacks 2 tensors", "model.layers.0.self_attn.v_proj.weight")


def test_missing_embedding_and_unembedding(copy):
    rewrite(copy, lambda tensors: {name: t for name, t in tensors.items() if "lm_head" not in name})
    refused(copy, BrokenCheckpoint, "lacks 1 tensor ", "lm_head.weight")
    rewrite(copy, lambda tensors: {name: t for name, t in tensors.items() if "embed" not in name})
    refused(copy, BrokenCheckpoint, "model.embed_tokens.weight")


def test_tensors_that_only_inference_needs_may_be_missing(copy):
    rewrite(copy, lambda t: {n: x for n, x in t.items() if "q_proj" not in n and "1.mlp" not in n})
    opened(copy)


def test_missing_shard(tmp_path):
    _, model = tiny_model("llama", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    next(tmp_path.glob("model-00002-of-*")).unlink()
    refused(tmp_path, BrokenCheckpoint, "incomplete", "model-00002-of-")


def test_index_without_shards(copy):
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text("{}")
    refused(copy, BrokenCheckpoint, "lists no shards")


def test_index_cannot_point_outside_its_folder(copy):
    outside = copy.parent / "outside.safetensors"
    (copy / "model.safetensors").rename(outside)
    table = {"model.norm.weight": "../outside.safetensors"}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    refused(copy, BrokenCheckpoint, "incomplete", "no outside.safetensors")


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "null"])
def test_config_that_is_no_object(copy, text):
    (copy / "config.json").write_text(text)
    refused(copy, BrokenCheckpoint, "config.json")


def test_unknown_architecture(copy):
    set_config(copy, model_type="mamba")
    refused(copy, UnsupportedModel, "unknown architecture", "mamba", "llama")


def test_config_of_another_size(copy):
    set_config(copy, num_attention_heads=8, num_key_value_heads=4)
    refused(copy, BrokenCheckpoint, "does not have the size", "expected (32, 64)")


def test_more_layers_than_the_file_holds(copy):
    set_config(copy, num_hidden_layers=3)
    refused(copy, BrokenCheckpoint, "model.layers.2.self_attn.v_proj.weight")


def test_quantised_tensor(copy):
    def eight_bit(tensors):
        name = "model.layers.1.self_attn.v_proj.weight"
        return {**tensors, name: tensors[name].to(torch.int8)}

    rewrite(copy, eight_bit)
    with pytest.raises(UnsupportedModel, match=r"v_proj\.weight .*not understood: got I8"):
        opened(copy).weights.attention(1)


def test_no_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    refused(copy, BrokenCheckpoint, "no tokenizer")


def test_damaged_tokenizer(copy):
    (copy / "tokenizer.json").write_text('{"model": 3}')
    refused(copy, BrokenCheckpoint, "tokenizer.json is damaged")


@pytest.mark.parametrize("rows", [40, 5000])
def test_vocabulary_that_does_not_fit(copy, rows):
    def resized(tensors):
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = tensors[name][:1].repeat(rows, 1)
        return tensors

    rewrite(copy, resized)
    refused(copy, BrokenCheckpoint, f"{rows} embedding rows for 96 token ids")


def test_unembedding_of_another_size(copy):
    rewrite(copy, lambda tensors: {**tensors, "lm_head.weight": tensors["lm_head.weight"][:50].clone()})
    refused(copy, BrokenCheckpoint, "lm_head.weight does not have the size")


def test_revision_of_a_folder(copy):
    refused(copy, UserMistake, "revision", revision="main")
