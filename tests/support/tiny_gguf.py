"""Writes a tiny transformers model as a GGUF file the way llama.cpp's converter does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, get_tensor_name_map, quants
from gguf.constants import MODEL_ARCH_NAMES
from torch import nn

from tests.support.tiny_models import tiny_tokenizer

Array = np.ndarray

# family of tests.support.tiny_models -> llama.cpp's name of the architecture
ARCHITECTURES = {
    "llama": "llama",
    "llama-wide-heads-biases": "llama",
    "llama-narrow-heads-tied": "llama",
    "mistral": "llama",
    "smollm3": "smollm3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3-text": "gemma3",
    "gpt2": "gpt2",
    "falcon-7b": "falcon",
    "falcon-40b": "falcon",
}


def write_gguf(
    family: str,
    model: nn.Module,
    path: Path,
    *,
    quantisation: GGMLQuantizationType = GGMLQuantizationType.F32,
    extra: dict[str, Any] | None = None,
    vocabulary: Callable[[GGUFWriter, int], None] | None = None,
    vectors: dict[str, Array] | None = None,
) -> Path:
    """Matrices in `quantisation`, vectors in float32, a byte-level vocabulary unless another is given."""
    name = ARCHITECTURES[family]
    writer = GGUFWriter(path, name)
    _write_sizes(writer, name, model.config)
    for key, value in (extra or {}).items():
        writer.add_uint32(key, value)
    (vocabulary or byte_level_vocabulary)(writer, model.config.vocab_size)
    architecture = next(key for key, known in MODEL_ARCH_NAMES.items() if known == name)
    table = get_tensor_name_map(architecture, len(_blocks(model)))
    change = _CHANGES.get(name, lambda _, tensor, __: tensor)
    tied = model.config.tie_word_embeddings
    for full, tensor in model.state_dict().items():
        short = table.get_name(full, try_suffixes=(".weight", ".bias"))
        if short is None or (full == "lm_head.weight" and tied):
            continue
        array = np.ascontiguousarray(change(full, tensor.float().numpy(), model.config))
        kind = quantisation if array.ndim > 1 else GGMLQuantizationType.F32
        writer.add_tensor(short, quants.quantize(array, kind), raw_dtype=kind)
    for short, array in (vectors or {}).items():
        writer.add_tensor(short, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _blocks(model: nn.Module) -> range:
    return range(model.config.num_hidden_layers)


def _write_sizes(writer: GGUFWriter, name: str, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if name == "falcon":
        grouped = config.new_decoder_architecture
        writer.add_head_count_kv(config.num_kv_heads if grouped else 1)
        writer.add_tensor_data_layout("jploski")
    elif name != "gpt2":
        writer.add_head_count_kv(config.num_key_value_heads)
    if getattr(config, "head_dim", None) and name != "falcon":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
        writer.add_rope_dimension_count(config.head_dim)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(config.layer_norm_epsilon)


def sentencepiece_vocabulary(writer: GGUFWriter, n_rows: int) -> None:
    """Llama 2's way: pieces with scores, ▁ for a space, a few bytes, padding marked unused."""
    words = ["▁the", "the", "▁cat", "cat", "▁", "t", "h", "e", "c", "a", "he", "at", "▁t", "▁c", "▁Paris", "Paris"]
    pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3)]
    pieces += [(f"<0x{byte:02X}>", 6) for byte in (0x0A, 0xE6, 0x9D, 0xB1)]
    pieces += [(word, 1) for word in (*words, *"Paris", "ar", "is", "Par", "▁Par")]
    pieces += [(f"<pad_{place}>", 5) for place in range(len(pieces), n_rows)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece for piece, _ in pieces])
    writer.add_token_scores([-float(place) for place in range(n_rows)])
    writer.add_token_types([kind for _, kind in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def byte_level_vocabulary(writer: GGUFWriter, n_rows: int) -> None:
    tokenizer = tiny_tokenizer()
    by_id = {i: token for token, i in tokenizer.get_vocab().items()}
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(n_rows)]
    kinds = [3 if i == 0 else 1 if i in by_id else 5 for i in range(n_rows)]
    merges = _merges(tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def _merges(tokenizer: Any) -> list[str]:
    import json

    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]


def _add_one(name: str, tensor: Array, _: Any) -> Array:
    return tensor + 1 if name.endswith("norm.weight") else tensor


def _transpose(name: str, tensor: Array, _: Any) -> Array:
    turned = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    return tensor.T if name.endswith(turned) else tensor


def _permute(name: str, tensor: Array, config: Any) -> Array:
    """Rotary halves interleaved; only queries and keys."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    part = name.split(".")[-2]
    if part not in heads:
        return tensor
    n, rows = heads[part], tensor.shape[0]
    return tensor.reshape(n, 2, rows // n // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def _sort_qkv(name: str, tensor: Array, config: Any) -> Array:
    if "query_key_value" not in name:
        return tensor
    groups = config.num_kv_heads if config.new_decoder_architecture else 1
    width = config.hidden_size // config.num_attention_heads
    by_group = tensor.reshape(groups, config.num_attention_heads // groups + 2, width, -1)
    parts = (by_group[:, :-2], by_group[:, -2:-1], by_group[:, -1:])
    return np.concatenate([part.reshape(-1, tensor.shape[-1]) for part in parts])


_CHANGES: dict[str, Callable[[str, Array, Any], Array]] = {
    "llama": _permute,
    "smollm3": _permute,
    "gemma": _add_one,
    "gemma2": _add_one,
    "gemma3": _add_one,
    "gpt2": _transpose,
    "falcon": _sort_qkv,
}
