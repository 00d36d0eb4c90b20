"""A transformers model in memory is read as the checkpoint that it was saved to, in every family."""

from __future__ import annotations

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint, open_in_memory
from maps_engine.engine import MapsEngine
from maps_engine.errors import UnsupportedModel, UserMistake
from maps_engine.results import EngineSettings
from tests.support.tiny_models import FAMILIES, MIXTURES, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_mappings_are_those_of_the_saved_checkpoint(family, tmp_path):
    folder, model = tiny_model(family, tmp_path)
    settings = EngineSettings("embedding" if family in MIXTURES else "first-mlp", top=8, targets=4)
    saved = MapsEngine(open_checkpoint(str(folder), device="cpu"), settings)
    held = MapsEngine(open_in_memory(model, tiny_tokenizer(), device="cpu"), settings)
    assert held.shape == saved.shape
    for one, other in zip(held.map_heads(), saved.map_heads(), strict=True):
        assert one.rows == other.rows
        assert one.suppressed_rows == other.suppressed_rows


@pytest.fixture
def llama(tmp_path):
    return tiny_model("llama", tmp_path)[1]


def test_every_weight_counts_in_the_fingerprint(llama):
    before = open_in_memory(llama, tiny_tokenizer()).fingerprint
    assert open_in_memory(llama, tiny_tokenizer()).fingerprint == before
    with torch.no_grad():
        llama.model.layers[1].self_attn.o_proj.weight[-1, -1] += 1e-3
    assert open_in_memory(llama, tiny_tokenizer()).fingerprint != before


def test_half_precision_is_read_as_it_is(llama):
    llama.to(torch.bfloat16)
    weights = open_in_memory(llama, tiny_tokenizer(), device="cpu").weights
    expected = llama.model.embed_tokens.weight[:3].float()
    torch.testing.assert_close(weights.embedding(slice(0, 3)), expected, rtol=0, atol=0)


def test_tokenizers_of_transformers_are_taken(llama):
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer())
    assert open_in_memory(llama, fast).vocabulary.encode(" the") == tiny_tokenizer().encode(" the").ids


@pytest.mark.parametrize("tokenizer", [None, "gpt2", object()])
def test_a_tokenizer_is_needed(llama, tokenizer):
    with pytest.raises(UserMistake, match="needs its fast tokenizer: got"):
        open_in_memory(llama, tokenizer)


def test_what_is_no_model_is_refused():
    with pytest.raises(UserMistake, match="cannot be opened as a model: got int"):
        open_in_memory(3, tiny_tokenizer())


def test_weights_that_are_elsewhere_are_refused(llama):
    with pytest.raises(UnsupportedModel, match=r"not wholly in memory: got \d+ tensors elsewhere"):
        open_in_memory(llama.to("meta"), tiny_tokenizer())
