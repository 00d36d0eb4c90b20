"""Llama and the families that keep its names: Mistral, Mixtral, SmolLM 3, Qwen 2 and 3, Phi-3, GPT-OSS."""

from __future__ import annotations

from maps_engine.architectures.record import GATED_MLP, Family, Linear, Mlp, NormStyle, SizeKeys

_SIZES = SizeKeys(head_width="head_dim")
_RMS = NormStyle(kind="rms", eps="rms_norm_eps")

LLAMA = Family(
    name="llama",
    model_types=("llama",),
    norm=_RMS,
    sizes=_SIZES,
    value=Linear("self_attn.v_proj", bias="attention_bias"),
    output=Linear("self_attn.o_proj", bias="attention_bias"),
    mlp=Mlp(
        up=Linear("mlp.up_proj", bias="mlp_bias"),
        down=Linear("mlp.down_proj", bias="mlp_bias"),
        gate=Linear("mlp.gate_proj", bias="mlp_bias"),
    ),
    defaults={
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "head_dim": None,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    harmless=frozenset({"is_llama_config"}),
)

FAMILIES = (LLAMA,)
