"""OLMo 1 (norms without any parameters) and OLMo 2 and 3 (norms only on what a branch adds)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maps_engine.checkpoints.families.record import GATED_MLP, Family, HeadNorms, Linear, NormStyle, SizeKeys


def _defaults(**changes: Any) -> dict[str, Any]:
    common = {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "head_dim": None,
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": False,
    }
    return {**common, **changes}


OLMO = Family(
    name="olmo",
    model_types=("olmo",),
    norm=NormStyle(kind="layer", eps=1e-5, affine=False),
    sizes=SizeKeys(head_width="head_dim"),
    value=Linear("self_attn.v_proj", bias="attention_bias"),
    output=Linear("self_attn.o_proj", bias="attention_bias"),
    mlp=GATED_MLP,
    defaults=_defaults(),
    only={"clip_qkv": (None,)},  # clips the values, so M would not be linear
)

OLMO2 = replace(
    OLMO,
    name="olmo2",
    model_types=("olmo2", "olmo3"),
    norm=NormStyle(kind="rms", eps="rms_norm_eps"),
    attention_norm=None,
    mlp_norm=None,
    post_attention_norm="post_attention_layernorm",
    post_mlp_norm="post_feedforward_layernorm",
    head_norms=HeadNorms("self_attn.q_norm", "self_attn.k_norm", kind="rms"),
    defaults=_defaults(rms_norm_eps=1e-5),
    only={},
)

FAMILIES = (OLMO, OLMO2)
