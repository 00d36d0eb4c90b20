"""GGUF files: the same weights as the checkpoint they were written from, whatever the converter changed."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader

from maps_engine.checkpoints.formats.gguf_file.header import read_gguf_header
from maps_engine.checkpoints.formats.gguf_file.source import GgufSource
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel
from tests.support.tiny_gguf import ARCHITECTURES, sentencepiece_vocabulary, write_gguf
from tests.support.tiny_models import ROWS, tiny_model, tiny_tokenizer

IDS = torch.tensor([3, 50, 3, 99])


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A llama folder, its model, and its GGUF file in float32."""
    folder, model = tiny_model("llama", tmp_path_factory.mktemp("llama"))
    return folder, model, write_gguf("llama", model, folder / "model.gguf")


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_gguf_equals_the_folder_it_came_from(family, tmp_path):
    folder, model = tiny_model(family, tmp_path / "folder")
    file = write_gguf(family, model, tmp_path / "model.gguf")
    theirs, ours = (open_checkpoint(str(path), device="cpu").weights for path in (folder, file))
    assert ours.shape == theirs.shape
    x = theirs.embedding(slice(None))
    torch.testing.assert_close(ours.embedding(slice(None)), x)
    torch.testing.assert_close(ours.unembedding(IDS), theirs.unembedding(IDS))
    torch.testing.assert_close(ours.final_norm()(x), theirs.final_norm()(x))
    torch.testing.assert_close(ours.first_mlp(x), theirs.first_mlp(x))
    for layer in range(ours.shape.n_layers):
        a, b = ours.attention(layer), theirs.attention(layer)
        torch.testing.assert_close(a.value, b.value)
        torch.testing.assert_close(a.output, b.output)
        assert (a.value_bias is None) == (b.value_bias is None)
        if b.value_bias is not None:
            torch.testing.assert_close(a.value_bias, b.value_bias)
        torch.testing.assert_close(ours.query_key(layer).query, theirs.query_key(layer).query)
        torch.testing.assert_close(ours.query_key(layer).key, theirs.query_key(layer).key)
        torch.testing.assert_close(ours.attention_norm(layer)(x), theirs.attention_norm(layer)(x))


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3-text", "gpt2", "qwen2", "phi3"])
def test_transformers_reads_the_same_from_the_file(family, tmp_path):
    """Our writer of test files follows llama.cpp's conventions: transformers undoes them to the same model."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    _, model = tiny_model(family, tmp_path / "folder")
    file = write_gguf(family, model, tmp_path / "model.gguf")
    theirs = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=model)["tensors"]
    ours = {name: tensor for name, tensor in model.state_dict().items() if name in theirs}
    assert len(ours) >= 15
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantised_rows_alone_equal_rows_of_the_whole(kind, tmp_path):
    _, model = tiny_model("llama", tmp_path / "folder", intermediate_size=64)
    file = write_gguf("llama", model, tmp_path / "m.gguf", quantisation=GGMLQuantizationType[kind])
    source = GgufSource(read_gguf_header(file))
    whole = source.read("token_embd.weight")
    torch.testing.assert_close(source.read_rows("token_embd.weight", IDS), whole[IDS])
    torch.testing.assert_close(source.read_rows("token_embd.weight", slice(5, 40, 3)), whole[5:40:3])
    error = (whole - model.model.embed_tokens.weight).abs().max() / whole.abs().max()
    assert error < 0.1
    assert open_checkpoint(str(file), device="cpu").weights.first_mlp(whole).isfinite().all()


def test_header_agrees_with_the_reference_reader(llama):
    header, reference = read_gguf_header(llama[2]), GGUFReader(llama[2])
    assert header.metadata == {
        key: field.contents() for key, field in reference.fields.items() if not key.startswith("GGUF.")
    }
    assert {name: tensor.start for name, tensor in header.tensors.items()} == {
        tensor.name: tensor.data_offset for tensor in reference.tensors
    }
    assert {name: tensor.n_bytes for name, tensor in header.tensors.items()} == {
        tensor.name: tensor.n_bytes for tensor in reference.tensors
    }


def test_vocabulary_of_the_file(llama):
    vocabulary = open_checkpoint(str(llama[2]), device="cpu").vocabulary
    tokenizer = tiny_tokenizer()
    assert len(vocabulary) == ROWS
    assert vocabulary.encode(" the red house") == tokenizer.encode(" the red house").ids
    assert vocabulary.kind(0) == "special"
    assert vocabulary.kind(ROWS - 1) == "unused"
    assert vocabulary.single_id("the") is not None


def test_sentencepiece_vocabulary_of_the_file(llama, tmp_path):
    file = write_gguf("llama", llama[1], tmp_path / "m.gguf", vocabulary=sentencepiece_vocabulary)
    words = open_checkpoint(str(file), device="cpu").vocabulary
    assert words.text(words.single_id("the")) == " the"
    assert words.text(words.single_id("the", leading_space=False)) == "the"
    assert [words.text(i) for i in words.encode(" the cat")] == [" the", " cat"]
    assert [words.kind(i) for i in range(5)] == ["special", "special", "special", "byte", "byte"]
    assert words.text(3) == "<0x0A>"
    assert words.kind(ROWS - 1) == "unused"


def test_converted_tokenizer_is_kept_and_no_transformers_is_imported(llama):
    import subprocess
    import sys

    open_checkpoint(str(llama[2]), device="cpu")
    code = (
        "import sys; from maps_engine.checkpoints.opening import open_checkpoint;"
        f"open_checkpoint({str(llama[2])!r}, device='cpu'); sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_damaged_cached_tokenizer_is_one_clear_line(llama):
    from maps_engine.folders import cache_folder

    open_checkpoint(str(llama[2]), device="cpu")
    (kept,) = (cache_folder() / "gguf").iterdir()
    kept.write_text("{")
    with pytest.raises(BrokenCheckpoint, match=r"damaged.*Delete"):
        open_checkpoint(str(llama[2]), device="cpu")


def test_mixture_in_a_llama_file_is_read_as_mixtral(llama, tmp_path):
    _, model, _ = llama
    file = write_gguf("llama", model, tmp_path / "m.gguf", extra={"llama.expert_count": 4})
    weights = open_checkpoint(str(file), device="cpu").weights
    assert weights.family == "mixtral"
    with pytest.raises(UnsupportedModel, match="no single MLP"):
        weights.first_mlp(torch.zeros(1, 32))


def test_unknown_quantisation_is_named(llama, tmp_path):
    blob = bytearray(llama[2].read_bytes())
    place = blob.index(b"blk.1.attn_v.weight") + len(b"blk.1.attn_v.weight") + 4 + 2 * 8
    blob[place : place + 4] = struct.pack("<I", 777)
    file = tmp_path / "m.gguf"
    file.write_bytes(blob)
    with pytest.raises(UnsupportedModel, match=r"blk\.1\.attn_v\.weight.*GGML type 777") as error:
        open_checkpoint(str(file), device="cpu")
    assert "\n" not in str(error.value)


def test_quantisation_that_gguf_cannot_undo_is_named(llama):
    header = read_gguf_header(llama[2])
    source = GgufSource(header)
    from dataclasses import replace

    source._tensors["token_embd.weight"] = replace(
        header.tensors["token_embd.weight"], kind=GGMLQuantizationType.Q8_1, n_bytes=ROWS * 40
    )
    with pytest.raises(UnsupportedModel, match=r"token_embd\.weight.*cannot be read"):
        source.read("token_embd.weight")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"llama.logit_scale": 3}, "logit_scale = 3"),
        ({"llama.attention.clamp_kqv": 8}, "clamp_kqv = 8"),
        ({"split.count": 3}, "one part of several"),
    ],
)
def test_attributes_that_are_not_understood(llama, tmp_path, extra, message):
    file = write_gguf("llama", llama[1], tmp_path / "m.gguf", extra=extra)
    with pytest.raises(UnsupportedModel, match=message):
        open_checkpoint(str(file), device="cpu")


def test_unknown_architecture_is_named_with_the_known_ones(tmp_path):
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedModel, match="got mamba; expected one of falcon, gemma"):
        open_checkpoint(str(tmp_path / "m.gguf"))


def test_missing_metadata_and_tensors(llama, tmp_path):
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BrokenCheckpoint, match=r"no llama\.attention\.head_count"):
        open_checkpoint(str(tmp_path / "m.gguf"))
    blob = llama[2].read_bytes().replace(b"blk.1.attn_v.weight", b"blk.1.attn_w.weight")
    (tmp_path / "n.gguf").write_bytes(blob)
    with pytest.raises(BrokenCheckpoint, match=r"lacks 1 tensor .*layers\.1\.self_attn\.v_proj\.weight"):
        open_checkpoint(str(tmp_path / "n.gguf"))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_truncated_anywhere_is_one_clear_line(llama, tmp_path, share):
    blob = llama[2].read_bytes()
    file = tmp_path / "m.gguf"
    file.write_bytes(blob[: int(len(blob) * share)])
    with pytest.raises(BrokenCheckpoint, match=r"truncated|not a GGUF") as error:
        open_checkpoint(str(file), device="cpu")
    assert "\n" not in str(error.value)


def test_random_damage_never_gives_another_exception(llama, tmp_path):
    """200 seeds of flipped header bytes: either it opens, or one of our errors says why."""
    from maps_engine.errors import HeadscribeError

    blob = llama[2].read_bytes()
    file = tmp_path / "m.gguf"
    random = np.random.default_rng(0)
    end = blob.index(b"output_norm.weight")
    refusals = []
    for _ in range(200):
        damaged = bytearray(blob)
        for place in random.integers(0, end, 3):
            damaged[place] = random.integers(256)
        file.write_bytes(damaged)
        try:
            read_gguf_header(file)
        except HeadscribeError as error:
            refusals.append(str(error))
    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


def test_other_version_is_refused(llama, tmp_path):
    blob = bytearray(llama[2].read_bytes())
    blob[4] = 1
    (tmp_path / "m.gguf").write_bytes(blob)
    with pytest.raises(UnsupportedModel, match="GGUF version: got 1"):
        open_checkpoint(str(tmp_path / "m.gguf"))
