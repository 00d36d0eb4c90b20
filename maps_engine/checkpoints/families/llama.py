"""Llama and the families that keep its tensor names, norms and sequential block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maps_engine.checkpoints.families.record import GATED_MLP, Family, HeadNorms, Linear, Mlp, NormStyle, SizeKeys

_MLP_WITH_KEY = Mlp(
    up=Linear("mlp.up_proj", bias="mlp_bias"),
    down=Linear("mlp.down_proj", bias="mlp_bias"),
    gate=Linear("mlp.gate_proj", bias="mlp_bias"),
)
_MIXTURE_KEYS = frozenset({"num_local_experts", "num_experts_per_tok", "num_experts"})


def _defaults(**changes: Any) -> dict[str, Any]:
    """What transformers' LlamaConfig assumes, changed where another family differs."""
    llama = {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "head_dim": None,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    }
    return {**llama, **changes}


LLAMA = Family(
    name="llama",
    model_types=("llama",),
    norm=NormStyle(kind="rms", eps="rms_norm_eps"),
    sizes=SizeKeys(head_width="head_dim"),
    value=Linear("self_attn.v_proj", bias="attention_bias"),
    output=Linear("self_attn.o_proj", bias="attention_bias"),
    mlp=_MLP_WITH_KEY,
    defaults=_defaults(attention_bias=False, mlp_bias=False),
    harmless=frozenset({"is_llama_config"}),
)

SMOLLM3 = replace(
    LLAMA,
    name="smollm3",
    model_types=("smollm3",),
    defaults=_defaults(
        hidden_size=2048,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=4,
        attention_bias=False,
        mlp_bias=False,
        tie_word_embeddings=True,
    ),
)

MISTRAL = replace(
    LLAMA,
    name="mistral",
    model_types=("mistral",),
    value=Linear("self_attn.v_proj"),
    output=Linear("self_attn.o_proj"),
    mlp=GATED_MLP,
    defaults=_defaults(num_key_value_heads=8),
)

MIXTRAL = replace(
    MISTRAL,
    name="mixtral",
    model_types=("mixtral",),
    mlp=None,
    mixture="a mixture of experts behind a router",
    defaults=_defaults(num_key_value_heads=8, rms_norm_eps=1e-5),
    harmless=_MIXTURE_KEYS,
)

QWEN2 = replace(
    MISTRAL,
    name="qwen2",
    model_types=("qwen2",),
    value=Linear("self_attn.v_proj", bias=True),
    defaults=_defaults(num_key_value_heads=32),
    only={"use_mrope": (False,)},
)

QWEN3 = replace(
    MISTRAL,
    name="qwen3",
    model_types=("qwen3",),
    value=Linear("self_attn.v_proj", bias="attention_bias"),
    output=Linear("self_attn.o_proj", bias="attention_bias"),
    head_norms=HeadNorms("self_attn.q_norm", "self_attn.k_norm", kind="rms"),
    defaults=_defaults(num_key_value_heads=32, head_dim=128, attention_bias=False),
)

PHI3 = replace(
    MISTRAL,
    name="phi3",
    model_types=("phi3",),
    value=Linear("self_attn.qkv_proj"),
    fused_qkv="stacked",
    mlp=Mlp(up=Linear("mlp.gate_up_proj"), down=Linear("mlp.down_proj"), fused=True),
    defaults=_defaults(hidden_size=3072, rms_norm_eps=1e-5),
    harmless=frozenset({"full_attn_mod", "interpolate_factor", "lm_head_bias"}),
)

GPT_OSS = replace(
    MIXTRAL,
    name="gpt_oss",
    model_types=("gpt_oss",),
    value=Linear("self_attn.v_proj", bias="attention_bias"),
    output=Linear("self_attn.o_proj", bias="attention_bias"),
    defaults=_defaults(
        hidden_size=2880,
        num_hidden_layers=36,
        num_attention_heads=64,
        num_key_value_heads=8,
        head_dim=64,
        rms_norm_eps=1e-5,
        attention_bias=True,
    ),
    # the published files keep experts in 4 bits and everything that the maps read in bfloat16
    harmless=_MIXTURE_KEYS
    | {"swiglu_limit", "swiglu_alpha", "experts_per_token", "initial_context_length", "quantization_config"},
)

FAMILIES = (LLAMA, SMOLLM3, MISTRAL, MIXTRAL, QWEN2, QWEN3, PHI3, GPT_OSS)
