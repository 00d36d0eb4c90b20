"""Tiny random checkpoints of every family, written by transformers itself, for tests without any download.

`tiny_model("llama", folder)` saves config, weights and a tokenizer and returns the folder with the model, whose
norms and biases are moved away from their trivial start so that forgetting one shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

VOCABULARY = 96
ROWS = 104  # padding rows beyond the tokenizer's ids, as real checkpoints have

_TEXT = (
    "the old man and the sea; the red house on the hill; a cat sat on the mat and ran from the dog "
    "Paris London Rome Berlin France England Italy Germany one two three four red green blue "
    "they walk they walked she sees she saw he runs he ran it is what it was"
)

# family -> (model type of transformers, settings); H heads, K value heads, d 32 unless said otherwise
_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-4,
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "layer_norm_epsilon": 1e-4}
_GEMMA = {**_LLAMA, "head_dim": 12}
_FALCON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "layer_norm_epsilon": 1e-4}
_LAYER_NORM = {key: value for key, value in _LLAMA.items() if key != "rms_norm_eps"} | {"layer_norm_eps": 1e-4}
_OPT = {
    "hidden_size": 32,
    "ffn_dim": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "word_embed_proj_dim": 32,
    "max_position_embeddings": 16,
}
_OLMO = {key: value for key, value in _LLAMA.items() if key != "rms_norm_eps"}
_NEOX = {key: value for key, value in _LAYER_NORM.items() if key != "num_key_value_heads"}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", _GPT2),
    "gpt2-inner-width": ("gpt2", {**_GPT2, "n_inner": 24, "activation_function": "gelu"}),
    "gpt-neo": (
        "gpt_neo",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 16,
            "window_size": 8,
            "layer_norm_epsilon": 1e-4,
        },
    ),
    "gpt-j": ("gptj", {**_GPT2, "rotary_dim": 4}),
    "gpt-neox": ("gpt_neox", {**_NEOX, "use_parallel_residual": True}),
    "gpt-neox-sequential": ("gpt_neox", {**_NEOX, "use_parallel_residual": False}),
    "gpt-neox-no-attention-bias": ("gpt_neox", {**_NEOX, "attention_bias": False}),
    "opt": ("opt", _OPT),
    "opt-350m": ("opt", {**_OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 20}),
    "opt-no-bias": ("opt", {**_OPT, "enable_bias": False, "layer_norm_elementwise_affine": False}),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "layer_norm_epsilon": 1e-4}),
    "falcon-7b": ("falcon", {**_FALCON, "multi_query": True, "bias": False}),
    "falcon-rw": (
        "falcon",
        {**_FALCON, "multi_query": False, "parallel_attn": False, "bias": True, "alibi": True},
    ),
    "falcon-40b": ("falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-11b": (
        "falcon",
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    ),
    "phi": ("phi", {**_LAYER_NORM, "partial_rotary_factor": 0.5}),
    "phi-2-full-heads": ("phi", {**_LAYER_NORM, "num_key_value_heads": 4, "qk_layernorm": True}),
    "phi3": ("phi3", {**_LLAMA, "pad_token_id": 0}),
    "phi4-tied-one-value-head": (
        "phi3",
        {**_LLAMA, "num_key_value_heads": 1, "tie_word_embeddings": True, "pad_token_id": 0},
    ),
    "llama": ("llama", _LLAMA),
    "llama-full-heads": ("llama", {**_LLAMA, "num_key_value_heads": 4}),
    "llama-one-value-head": ("llama", {**_LLAMA, "num_key_value_heads": 1}),
    "llama-wide-heads-biases": ("llama", {**_LLAMA, "head_dim": 14, "attention_bias": True, "mlp_bias": True}),
    "llama-narrow-heads-tied": ("llama", {**_LLAMA, "head_dim": 6, "tie_word_embeddings": True}),
    "llama-odd-sizes": (
        "llama",
        {**_LLAMA, "hidden_size": 30, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 10},
    ),
    "smollm3": ("smollm3", {**_LLAMA, "no_rope_layers": [1, 0], "pad_token_id": 0}),
    "mistral": ("mistral", {**_LLAMA, "head_dim": 12}),
    "mixtral": ("mixtral", {**_LLAMA, "num_local_experts": 2, "num_experts_per_tok": 1}),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", {**_LLAMA, "head_dim": 12}),
    "gemma": ("gemma", _GEMMA),
    "gemma-one-value-head": ("gemma", {**_GEMMA, "num_key_value_heads": 1}),
    "gemma2": ("gemma2", {**_GEMMA, "query_pre_attn_scalar": 12}),
    "gemma3-text": ("gemma3_text", {**_GEMMA, "query_pre_attn_scalar": 12}),
    "olmo": ("olmo", _OLMO),
    "olmo2": ("olmo2", _LLAMA),
    "olmo3": ("olmo3", _LLAMA),
    "cohere": ("cohere", {**_LAYER_NORM, "use_qk_norm": True}),
    "cohere2": ("cohere2", {**_LAYER_NORM, "head_dim": 12}),
    "stablelm": ("stablelm", {**_LAYER_NORM, "use_qkv_bias": True}),
    "stablelm-parallel": ("stablelm", {**_LAYER_NORM, "use_parallel_residual": True, "qk_layernorm": True}),
    "gpt-oss": (
        "gpt_oss",
        {**_LLAMA, "head_dim": 12, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
}
MIXTURES = ("mixtral", "gpt-oss")


def tiny_tokenizer() -> Tokenizer:
    """Byte-level BPE with VOCABULARY ids, <|endoftext|> first, trained on a few words; always the same."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator([_TEXT, " " + _TEXT], trainer)
    return tokenizer


def tiny_model(family: str, folder: Path, *, seed: int = 0, **overrides: Any) -> tuple[Path, nn.Module]:
    """Save a tiny checkpoint of `family` (a key of FAMILIES) in `folder`; returns it and the model."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    model_type, settings = FAMILIES[family]
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    config = CONFIG_MAPPING[model_type](**{**ids, "vocab_size": ROWS, **settings, **overrides})
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).float().eval().requires_grad_(False)
    disturb(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return folder, model


def disturb(model: nn.Module) -> None:
    """Make every parameter matter: gains away from 1, biases away from 0, matrices large enough to see."""
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            if parameter.dim() < 2:
                parameter.add_(0.3 * noise)
            else:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)
