"""The configuration of a GGUF file in transformers' words: what config.json would say."""

from __future__ import annotations

from typing import Any

from maps_engine.checkpoints.families.record import Family
from maps_engine.checkpoints.formats.gguf_file.header import GgufHeader
from maps_engine.errors import BrokenCheckpoint

# the file's key -> transformers' keys, of which each family has one; what only runs of the blocks need
_BLOCK_KEYS = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "feed_forward_length": ("intermediate_size", "n_inner", "ffn_hidden_size"),
    "rope.freq_base": ("rope_theta",),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_local_experts",),
    "expert_used_count": ("num_experts_per_tok",),
}
# layers -> the scale of queries, which the file does not hold: the 27B models divide by the width of a head in the
# residual stream instead of the head's own
_LARGE_GEMMA = {"gemma2": 46, "gemma3": 62}


def config_of(header: GgufHeader, family: Family) -> dict[str, Any]:
    """The keys of config.json that the file's metadata decides. Raises BrokenCheckpoint for a size that is missing."""
    keys, heads = family.sizes, _need(header, "attention.head_count")
    config: dict[str, Any] = {
        "model_type": family.model_types[0],
        keys.layers: _need(header, "block_count"),
        keys.width: _need(header, "embedding_length"),
        keys.heads: heads,
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }
    if keys.value_heads:
        config[keys.value_heads] = header.own("attention.head_count_kv", heads)
    if keys.head_width and header.own("attention.value_length"):
        config[keys.head_width] = header.own("attention.value_length")
    if isinstance(family.norm.eps, str):
        epsilon = header.own("attention.layer_norm_rms_epsilon")
        config[family.norm.eps] = epsilon or _need(header, "attention.layer_norm_epsilon")
    if family.name == "falcon":
        # 7B is the grouped layout with one value head, so one description serves both
        norms = 2 if "blk.0.attn_norm_2.weight" in header.tensors else 1
        config |= {"new_decoder_architecture": True, "num_ln_in_parallel_attn": norms}
    return config | _of_blocks(header, family, heads)


def _of_blocks(header: GgufHeader, family: Family, heads: int) -> dict[str, Any]:
    """What the maps do not need and a run of the blocks does."""
    found = {ours: value for key, names in _BLOCK_KEYS.items() for ours in names if (value := header.own(key))}
    for key, tensor in (("attention_bias", "attn_q"), ("mlp_bias", "ffn_up")):
        if key in family.defaults:
            found[key] = f"blk.0.{tensor}.bias" in header.tensors
    if _LARGE_GEMMA.get(header.architecture) == header.own("block_count"):
        found["query_pre_attn_scalar"] = _need(header, "embedding_length") // heads
    scaling = header.own("rope.scaling.type", "none")
    if scaling != "none":
        found["rope_scaling"] = {
            "rope_type": scaling,
            "factor": header.own("rope.scaling.factor", 1.0),
            "original_max_position_embeddings": header.own("rope.scaling.original_context_length"),
        }
    rotated = header.own("rope.dimension_count")
    width = header.own("attention.key_length") or _need(header, "embedding_length") // heads
    if rotated and rotated < width:
        found["partial_rotary_factor"] = rotated / width
    return found


def _need(header: GgufHeader, key: str) -> Any:
    value = header.own(key)
    if value is None:
        raise BrokenCheckpoint("the GGUF file lacks metadata", got=f"no {header.architecture}.{key}")
    return value
