"""GPT-NeoX (Pythia), BLOOM and Falcon: query, key and value rows interleaved in one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from maps_engine.checkpoints.families.record import Family, Linear, Mlp, NormStyle, SizeKeys


def _neox_variant(family: Family, values: Mapping[str, Any]) -> Family:
    return replace(family, flow="parallel" if values["use_parallel_residual"] else "sequential")


GPT_NEOX = Family(
    name="gpt_neox",
    model_types=("gpt_neox",),
    prefixes=("gpt_neox.", ""),
    norm=NormStyle(kind="layer", eps="layer_norm_eps", bias=True),
    sizes=SizeKeys(value_heads=None),
    embedding="embed_in",
    unembedding=("embed_out", "lm_head"),
    value=Linear("attention.query_key_value", bias="attention_bias"),
    output=Linear("attention.dense", bias="attention_bias"),
    fused_qkv="grouped",
    mlp=Mlp(up=Linear("mlp.dense_h_to_4h", bias=True), down=Linear("mlp.dense_4h_to_h", bias=True)),
    final_norm="final_layer_norm",
    defaults={
        "hidden_size": 6144,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "attention_bias": True,
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
    },
    variant=_neox_variant,
)

BLOOM = Family(
    name="bloom",
    model_types=("bloom",),
    prefixes=("transformer.", ""),
    norm=NormStyle(kind="layer", eps="layer_norm_epsilon", bias=True),
    sizes=SizeKeys(layers="n_layer", heads="n_head", value_heads=None),
    aliases={"n_embed": "hidden_size", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
    embedding="word_embeddings",
    embedding_norm="word_embeddings_layernorm",
    block="h.{layer}.",
    value=Linear("self_attention.query_key_value", bias=True),
    output=Linear("self_attention.dense", bias=True),
    fused_qkv="grouped",
    mlp=Mlp(
        up=Linear("mlp.dense_h_to_4h", bias=True),
        down=Linear("mlp.dense_4h_to_h", bias=True),
        activation="gelu_new",  # BLOOM has no key for it
    ),
    final_norm="ln_f",
    defaults={
        "hidden_size": 64,
        "n_layer": 2,
        "n_head": 8,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
    only={"apply_residual_connection_post_layernorm": (False,)},
)


def _falcon_variant(family: Family, values: Mapping[str, Any]) -> Family:
    """7B: one value head, one norm for both branches. 40B: grouped, a norm per branch. RW: full, sequential."""
    if not values["parallel_attn"]:
        return replace(family, attention_norm="input_layernorm", mlp_norm="post_attention_layernorm")
    norms = values["num_ln_in_parallel_attn"] or (2 if values["new_decoder_architecture"] else 1)
    if norms == 2:
        return replace(family, flow="parallel", attention_norm="ln_attn", mlp_norm="ln_mlp")
    return replace(family, flow="parallel", attention_norm="input_layernorm", mlp_norm="input_layernorm")


def _falcon_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Old Falcons say multi_query instead of counting value heads."""
    grouped = values["new_decoder_architecture"]
    if grouped:
        return {}
    return {"num_kv_heads": 1 if values["multi_query"] else None}


def _falcon_problems(values: Mapping[str, Any]) -> list[str]:
    if values["new_decoder_architecture"] and not values["parallel_attn"]:
        return ["new_decoder_architecture = True with parallel_attn = False"]
    if values["num_ln_in_parallel_attn"] == 2 and not values["new_decoder_architecture"]:
        return ["num_ln_in_parallel_attn = 2 with new_decoder_architecture = False"]
    return []


FALCON = Family(
    name="falcon",
    model_types=("falcon",),
    prefixes=("transformer.", ""),
    norm=NormStyle(kind="layer", eps="layer_norm_epsilon", bias=True),
    sizes=SizeKeys(value_heads="num_kv_heads"),
    aliases={"n_embed": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"},
    embedding="word_embeddings",
    block="h.{layer}.",
    value=Linear("self_attention.query_key_value", bias="bias"),
    output=Linear("self_attention.dense", bias="bias"),
    fused_qkv="grouped",
    mlp=Mlp(
        up=Linear("mlp.dense_h_to_4h", bias="bias"),
        down=Linear("mlp.dense_4h_to_h", bias="bias"),
        activation="activation",
    ),
    final_norm="ln_f",
    defaults={
        "hidden_size": 4544,
        "num_hidden_layers": 32,
        "num_attention_heads": 71,
        "num_kv_heads": None,
        "activation": "gelu",
        "layer_norm_epsilon": 1e-5,
        "bias": False,
        "multi_query": True,
        "new_decoder_architecture": False,
        "num_ln_in_parallel_attn": None,
        "parallel_attn": True,
        "tie_word_embeddings": True,
    },
    only={
        "apply_residual_connection_post_layernorm": (False,),
        "num_ln_in_parallel_attn": (None, 1, 2),
    },
    variant=_falcon_variant,
    derived=_falcon_values,
    problems=_falcon_problems,
)

FAMILIES = (GPT_NEOX, BLOOM, FALCON)
