"""Phi-1/2, Cohere and StableLM: Llama-like names, LayerNorm, blocks whose branches share one norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from maps_engine.checkpoints.families.record import GATED_MLP, Family, HeadNorms, Linear, Mlp, NormStyle, SizeKeys

PHI = Family(
    name="phi",
    model_types=("phi",),
    norm=NormStyle(kind="layer", eps="layer_norm_eps", bias=True),
    sizes=SizeKeys(head_width="head_dim"),
    value=Linear("self_attn.v_proj", bias=True),
    output=Linear("self_attn.dense", bias=True),
    mlp=Mlp(up=Linear("mlp.fc1", bias=True), down=Linear("mlp.fc2", bias=True)),
    mlp_norm="input_layernorm",
    final_norm="final_layernorm",
    flow="parallel",
    head_norms=HeadNorms("self_attn.q_layernorm", "self_attn.k_layernorm", kind="layer", used="qk_layernorm"),
    defaults={
        "hidden_size": 2048,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "head_dim": None,
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-5,
        "qk_layernorm": False,
        "tie_word_embeddings": False,
    },
)

COHERE = Family(
    name="cohere",
    model_types=("cohere",),
    norm=NormStyle(kind="layer", eps="layer_norm_eps"),
    sizes=SizeKeys(head_width="head_dim"),
    value=Linear("self_attn.v_proj", bias="attention_bias"),
    output=Linear("self_attn.o_proj", bias="attention_bias"),
    mlp=GATED_MLP,
    mlp_norm="input_layernorm",
    flow="parallel",
    head_norms=HeadNorms("self_attn.q_norm", "self_attn.k_norm", kind="layer", used="use_qk_norm"),
    defaults={
        "hidden_size": 8192,
        "num_hidden_layers": 40,
        "num_attention_heads": 64,
        "num_key_value_heads": None,
        "head_dim": None,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-5,
        "attention_bias": False,
        "use_qk_norm": False,
        "tie_word_embeddings": True,
    },
    only={"use_parallel_block": (True,), "use_gated_activation": (True,)},
    harmless=frozenset(
        {
            "position_embedding_type",
            "order_of_interleaved_layers",
            "layer_switch",
            "use_embedding_sharing",
            "use_parallel_embedding",
        }
    ),
)

COHERE2 = replace(
    COHERE,
    model_types=("cohere2",),
    head_norms=None,
    defaults={key: value for key, value in COHERE.defaults.items() if key != "use_qk_norm"},
)


def _stablelm_variant(family: Family, values: Mapping[str, Any]) -> Family:
    if values["use_parallel_residual"]:
        return replace(family, flow="parallel", mlp_norm="input_layernorm")
    return family


STABLELM = Family(
    name="stablelm",
    model_types=("stablelm",),
    norm=NormStyle(kind="layer", eps="layer_norm_eps", bias=True),
    value=Linear("self_attn.v_proj", bias="use_qkv_bias"),
    output=Linear("self_attn.o_proj"),
    mlp=GATED_MLP,
    head_norms=HeadNorms(
        "self_attn.q_layernorm.norms.{head}", "self_attn.k_layernorm.norms.{head}", kind="layer", used="qk_layernorm"
    ),
    defaults={
        "hidden_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-5,
        "use_qkv_bias": False,
        "qk_layernorm": False,
        "use_parallel_residual": False,
        "tie_word_embeddings": False,
    },
    aliases={"norm_eps": "layer_norm_eps"},
    variant=_stablelm_variant,
)

FAMILIES = (PHI, COHERE, COHERE2, STABLELM)
