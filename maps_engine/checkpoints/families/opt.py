"""OPT. The 350m model norms after the residual and has embeddings narrower than its blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from maps_engine.checkpoints.families.record import Family, Linear, Mlp, NormStyle, SizeKeys


def _variant(family: Family, values: Mapping[str, Any]) -> Family:
    before = values["do_layer_norm_before"]
    narrow = (values["word_embed_proj_dim"] or values["hidden_size"]) != values["hidden_size"]
    return replace(
        family,
        norm=replace(family.norm, affine=bool(values["layer_norm_elementwise_affine"])),
        flow="sequential" if before else "norm-after-residual",
        final_norm="final_layer_norm" if before and not values["_remove_final_layer_norm"] else None,
        project_in="project_in" if narrow else None,
        project_out="project_out" if narrow else None,
    )


OPT = Family(
    name="opt",
    model_types=("opt",),
    prefixes=("model.decoder.", "decoder.", ""),
    norm=NormStyle(kind="layer", eps=1e-5, bias=True),
    sizes=SizeKeys(value_heads=None),
    value=Linear("self_attn.v_proj", bias="enable_bias"),
    output=Linear("self_attn.out_proj", bias="enable_bias"),
    mlp=Mlp(
        up=Linear("fc1", bias="enable_bias"),
        down=Linear("fc2", bias="enable_bias"),
        activation="activation_function",
    ),
    attention_norm="self_attn_layer_norm",
    mlp_norm="final_layer_norm",
    final_norm="final_layer_norm",
    defaults={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "word_embed_proj_dim": None,
        "activation_function": "relu",
        "do_layer_norm_before": True,
        "_remove_final_layer_norm": False,
        "enable_bias": True,
        "layer_norm_elementwise_affine": True,
        "tie_word_embeddings": True,
    },
    variant=_variant,
)

FAMILIES = (OPT,)
