"""Gemma 1 to 3: norms with gain 1 + w, embeddings scaled by sqrt(d), and from Gemma 2 on post-norms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maps_engine.checkpoints.families.record import GATED_MLP, Family, HeadNorms, Linear, NormStyle, SizeKeys


def _defaults(**changes: Any) -> dict[str, Any]:
    common = {
        "head_dim": 256,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "tie_word_embeddings": True,
    }
    return {**common, **changes}


GEMMA = Family(
    name="gemma",
    model_types=("gemma",),
    norm=NormStyle(kind="rms", eps="rms_norm_eps", plus_one=True),
    sizes=SizeKeys(head_width="head_dim"),
    value=Linear("self_attn.v_proj", bias="attention_bias"),
    output=Linear("self_attn.o_proj", bias="attention_bias"),
    mlp=GATED_MLP,
    scale_embedding=True,
    defaults=_defaults(
        hidden_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=16,
        hidden_act="gelu_pytorch_tanh",
    ),
    # transformers reads hidden_act; old files carry this key beside it
    only={"use_bidirectional_attention": (None, False), "hidden_activation": (None, "gelu_pytorch_tanh")},
)

_SIZES_2 = {"hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4}

GEMMA2 = replace(
    GEMMA,
    name="gemma2",
    model_types=("gemma2",),
    mlp=replace(GATED_MLP, activation="hidden_activation"),
    mlp_norm="pre_feedforward_layernorm",
    post_attention_norm="post_attention_layernorm",
    post_mlp_norm="post_feedforward_layernorm",
    defaults=_defaults(**_SIZES_2, hidden_activation="gelu_pytorch_tanh"),
    only={"use_bidirectional_attention": (None, False)},
    harmless=frozenset({"hidden_act"}),  # carried by old files, read by nobody
)

GEMMA3 = replace(
    GEMMA2,
    name="gemma3",
    model_types=("gemma3_text", "gemma3"),
    head_norms=HeadNorms("self_attn.q_norm", "self_attn.k_norm", kind="rms"),
    harmless=frozenset({"hidden_act", "mm_tokens_per_image", "vision_config", "text_config"}),
)

FAMILIES = (GEMMA, GEMMA2, GEMMA3)
