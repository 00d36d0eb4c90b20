"""Checkpoint folders in all their forms, read lazily."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from maps_engine.checkpoints.formats.folder_checkpoint import weight_files
from maps_engine.checkpoints.formats.safetensors_source import SafetensorsSource
from maps_engine.checkpoints.formats.tensor_source import JoinedSource, RenamedSource
from maps_engine.checkpoints.formats.torch_source import TorchSource
from maps_engine.checkpoints.opening import open_checkpoint, pick_device
from maps_engine.errors import BrokenCheckpoint, UserMistake
from tests.support.spoiling import opened, rewrite, set_config
from tests.support.tiny_models import ROWS, tiny_model


def everything(folder: Path) -> list[torch.Tensor]:
    weights = opened(folder).weights
    attention = weights.attention(1)
    x = weights.embedding(slice(0, 9))
    return [x, weights.unembedding(slice(0, 9)), attention.value, attention.output, weights.first_mlp(x)]


class TestForms:
    def test_sharded_equals_single(self, llama_folder, tmp_path):
        _, model = tiny_model("llama", tmp_path / "whole")
        model.save_pretrained(tmp_path / "shards", max_shard_size="12KB")
        shutil.copy(llama_folder / "tokenizer.json", tmp_path / "shards")
        assert len(weight_files(tmp_path / "shards")) > 2
        for ours, theirs in zip(everything(tmp_path / "shards"), everything(llama_folder), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

    @pytest.mark.parametrize("new_format", [True, False])
    def test_bin_equals_safetensors(self, copy, llama_folder, new_format):
        tensors = load_file(copy / "model.safetensors")
        (copy / "model.safetensors").unlink()
        torch.save(tensors, copy / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
        for ours, theirs in zip(everything(copy), everything(llama_folder), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

    def test_sharded_bin_equals_safetensors(self, copy, llama_folder):
        tensors = load_file(copy / "model.safetensors")
        (copy / "model.safetensors").unlink()
        names = sorted(tensors)
        table = {}
        for part, chosen in enumerate((names[::2], names[1::2])):
            file = f"pytorch_model-0000{part + 1}-of-00002.bin"
            torch.save({name: tensors[name] for name in chosen}, copy / file)
            table |= dict.fromkeys(chosen, file)
        (copy / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
        for ours, theirs in zip(everything(copy), everything(llama_folder), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_stored_in_another_dtype(self, copy, llama_folder, dtype):
        rewrite(copy, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})
        ours = everything(copy)
        assert all(tensor.dtype == torch.float32 for tensor in ours)
        torch.testing.assert_close(ours[2], everything(llama_folder)[2], rtol=1e-2, atol=1e-2)

    def test_asked_for_in_another_dtype(self, llama_folder):
        weights = opened(llama_folder, dtype=torch.float64).weights
        assert weights.dtype == weights.first_mlp(weights.embedding(slice(0, 3))).dtype == torch.float64

    @pytest.mark.parametrize("prefix", ["", "language_model.model.", "model.language_model."])
    def test_other_prefixes(self, copy, llama_folder, prefix):
        def renamed(tensors):
            return {
                (prefix + name.removeprefix("model.") if name.startswith("model.") else name): tensor
                for name, tensor in tensors.items()
            }

        rewrite(copy, renamed)
        for ours, theirs in zip(everything(copy), everything(llama_folder), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

    def test_multimodal_wrapper(self, tmp_path):
        """Gemma 3 with pictures: the text part is found under its own prefix and config."""
        folder, _ = tiny_model("gemma3-text", tmp_path / "text")
        theirs = everything(folder)
        config = json.loads((folder / "config.json").read_text())
        outer = {"model_type": "gemma3", "text_config": config, "vision_config": {"hidden_size": 4}}
        (folder / "config.json").write_text(json.dumps(outer))
        rewrite(folder, lambda tensors: {f"language_model.{name}": t for name, t in tensors.items()})
        for ours, other in zip(everything(folder), theirs, strict=True):
            torch.testing.assert_close(ours, other, rtol=0, atol=0)

    def test_real_multimodal_checkpoint(self, tmp_path):
        """The same as transformers writes it, with a vision tower in the file."""
        from transformers import Gemma3Config, Gemma3ForConditionalGeneration

        from tests.support.tiny_models import FAMILIES, disturb, tiny_tokenizer

        text = {**FAMILIES["gemma3-text"][1], "vocab_size": ROWS, "pad_token_id": 0}
        vision = {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        }
        config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
        model = Gemma3ForConditionalGeneration(config).eval().requires_grad_(False)
        disturb(model)
        model.save_pretrained(tmp_path)
        tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
        weights = opened(tmp_path).weights
        layer = model.model.language_model.layers[0]
        torch.testing.assert_close(
            weights.attention(0).value.transpose(1, 2).flatten(0, 1), layer.self_attn.v_proj.weight
        )
        torch.testing.assert_close(
            weights.embedding(torch.arange(5)), model.model.language_model.embed_tokens(torch.arange(5))
        )

    def test_slow_tokenizer_is_converted_once(self, copy, monkeypatch):
        vocabulary = opened(copy).vocabulary
        words = json.loads((copy / "tokenizer.json").read_text())["model"]
        (copy / "tokenizer.json").unlink()
        (copy / "vocab.json").write_text(json.dumps({**words["vocab"], "<|endoftext|>": 0}))
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in words["merges"]]
        (copy / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        (copy / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
        converted = opened(copy).vocabulary
        assert converted.encode(" the red house") == vocabulary.encode(" the red house")
        converter = "maps_engine.checkpoints.formats.folder_tokenizer._converted"
        monkeypatch.setattr(converter, lambda _: pytest.fail("converted again"))
        assert opened(copy).vocabulary.encode(" the") == vocabulary.encode(" the")


class TestLaziness:
    def test_opening_reads_only_headers(self, copy, monkeypatch):
        def forbidden(*_):
            raise AssertionError("a tensor was read")

        monkeypatch.setattr(SafetensorsSource, "_view", forbidden)
        assert opened(copy).weights.shape.vocab_size == ROWS

    def test_rows_are_views_of_the_map(self, llama_folder):
        source = SafetensorsSource(llama_folder / "model.safetensors")
        whole = source.read("model.embed_tokens.weight")
        part = source.read_rows("model.embed_tokens.weight", slice(3, 6))
        assert part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()

    def test_a_few_rows_of_a_large_table_touch_few_pages(self, tmp_path):
        """64 MB on disk; reading 10 rows must not bring it into memory."""
        save_file({"table": torch.zeros(2**18, 64)}, tmp_path / "model.safetensors")
        source = SafetensorsSource(tmp_path / "model.safetensors")
        before = _resident()
        source.read_rows("table", torch.arange(0, 2**18, 2**15)).sum()
        source.read_rows("table", slice(5, 10)).sum()
        assert _resident() - before < 16 * 2**20

    def test_one_layer_reads_only_its_tensors(self, llama_folder, monkeypatch):
        weights = opened(llama_folder).weights
        seen: list[str] = []
        read = SafetensorsSource._view
        monkeypatch.setattr(SafetensorsSource, "_view", lambda self, name: seen.append(name) or read(self, name))
        weights.attention(1)
        assert sorted(seen) == ["model.layers.1.self_attn.o_proj.weight", "model.layers.1.self_attn.v_proj.weight"]

    def test_first_mlp_is_read_once(self, llama_folder, monkeypatch):
        weights = opened(llama_folder).weights
        x = weights.embedding(slice(0, 4))
        weights.first_mlp(x)
        monkeypatch.setattr(SafetensorsSource, "_view", lambda *_: pytest.fail("read again"))
        weights.first_mlp(x)


class TestSources:
    def test_tensors_that_lie_at_odd_places(self, tmp_path):
        """Old writers did not pad the header."""
        header = b'{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}} '
        header += b" " * ((3 - 8 - len(header)) % 4)
        body = torch.arange(4.0).numpy().tobytes()
        (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + body)
        assert SafetensorsSource(tmp_path / "m.safetensors").read("a").tolist() == [[0.0, 1.0], [2.0, 3.0]]

    def test_empty_tensor(self, tmp_path):
        save_file({"none": torch.zeros(0, 4)}, tmp_path / "model.safetensors")
        assert SafetensorsSource(tmp_path / "model.safetensors").read("none").shape == (0, 4)

    def test_joined_and_renamed(self, tmp_path):
        save_file({"a": torch.arange(6.0).reshape(3, 2)}, tmp_path / "a.safetensors")
        torch.save({"b": torch.ones(2)}, tmp_path / "b.bin")
        parts = [SafetensorsSource(tmp_path / "a.safetensors"), TorchSource(tmp_path / "b.bin")]
        joined = JoinedSource(parts)
        assert joined.names() == {"a", "b"}
        assert joined.shape("b") == (2,)
        assert joined.read_rows("a", torch.tensor([2])).tolist() == [[4.0, 5.0]]
        renamed = RenamedSource(joined, {"x": "a", "y": "not there"})
        assert renamed.names() == {"x"}
        assert renamed.read("x").shape == renamed.shape("x") == (3, 2)
        assert renamed.read_rows("x", slice(0, 1)).tolist() == [[0.0, 1.0]]
        with pytest.raises(BrokenCheckpoint, match="no y"):
            renamed.read("y")

    def test_nested_state_dict(self, tmp_path):
        torch.save({"state_dict": {"a": torch.ones(3, 2)}, "epoch": 3}, tmp_path / "m.bin")
        source = TorchSource(tmp_path / "m.bin")
        assert source.names() == {"a"}
        assert source.read_rows("a", torch.tensor([1, 1])).shape == (2, 2)


class TestDevices:
    def test_auto_is_there(self):
        assert pick_device("auto").type in ("cpu", "cuda", "mps")

    @pytest.mark.parametrize("name", ["tpu", "", "cpu:x", "cuda:-3"])
    def test_unknown_names(self, name):
        with pytest.raises(UserMistake, match="device"):
            pick_device(name)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="has an accelerator")
    def test_absent_accelerator(self, llama_folder):
        with pytest.raises(UserMistake, match="not available"):
            open_checkpoint(str(llama_folder), device="cuda")

    def test_meta_is_no_device_to_compute_on(self):
        with pytest.raises(UserMistake, match="not available"):
            pick_device("meta")


def test_checkpoint_says_what_it_is(llama_folder):
    checkpoint = opened(llama_folder)
    assert checkpoint.name == str(llama_folder)
    assert str(llama_folder) in checkpoint.location
    assert checkpoint.weights.family == "llama"
    assert checkpoint.weights.device == torch.device("cpu")
    assert len(checkpoint.fingerprint) == 32


def test_fingerprint_follows_content_not_place(llama_folder, copy):
    assert opened(copy).fingerprint == opened(llama_folder).fingerprint
    rewrite(copy, lambda tensors: {**tensors, "model.norm.weight": tensors["model.norm.weight"] + 1})
    assert opened(copy).fingerprint != opened(llama_folder).fingerprint


def test_config_is_part_of_the_fingerprint(llama_folder, copy):
    set_config(copy, rms_norm_eps=1e-3)
    assert opened(copy).fingerprint != opened(llama_folder).fingerprint


def _resident() -> int:
    """Bytes of this process in memory."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
