"""GPT-2, GPT-Neo and GPT-J: LayerNorm with bias, plain MLP."""

from __future__ import annotations

from maps_engine.checkpoints.families.record import Family, Linear, Mlp, NormStyle, SizeKeys

_PREFIXES = ("transformer.", "")
_LAYER_NORM = NormStyle(kind="layer", eps="layer_norm_epsilon", bias=True)
_GPT2_SIZES = SizeKeys(width="n_embd", layers="n_layer", heads="n_head", value_heads=None)
_GPT2_ALIASES = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}

GPT2 = Family(
    name="gpt2",
    model_types=("gpt2",),
    prefixes=_PREFIXES,
    norm=_LAYER_NORM,
    sizes=_GPT2_SIZES,
    aliases=_GPT2_ALIASES,
    embedding="wte",
    block="h.{layer}.",
    value=Linear("attn.c_attn", bias=True),
    output=Linear("attn.c_proj", bias=True),
    fused_qkv="stacked",
    input_by_output=True,
    mlp=Mlp(up=Linear("mlp.c_fc", bias=True), down=Linear("mlp.c_proj", bias=True), activation="activation_function"),
    attention_norm="ln_1",
    mlp_norm="ln_2",
    final_norm="ln_f",
    defaults={
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
)

GPT_NEO = Family(
    name="gpt_neo",
    model_types=("gpt_neo",),
    prefixes=_PREFIXES,
    norm=_LAYER_NORM,
    sizes=SizeKeys(layers="num_layers", heads="num_heads", value_heads=None),
    aliases={"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"},
    embedding="wte",
    block="h.{layer}.",
    value=Linear("attn.attention.v_proj"),
    output=Linear("attn.attention.out_proj", bias=True),
    mlp=Mlp(up=Linear("mlp.c_fc", bias=True), down=Linear("mlp.c_proj", bias=True), activation="activation_function"),
    attention_norm="ln_1",
    mlp_norm="ln_2",
    final_norm="ln_f",
    defaults={
        "hidden_size": 2048,
        "num_layers": 24,
        "num_heads": 16,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
)

GPT_J = Family(
    name="gptj",
    model_types=("gptj",),
    prefixes=_PREFIXES,
    norm=_LAYER_NORM,
    sizes=_GPT2_SIZES,
    aliases=_GPT2_ALIASES,
    embedding="wte",
    block="h.{layer}.",
    value=Linear("attn.v_proj"),
    output=Linear("attn.out_proj"),
    mlp=Mlp(up=Linear("mlp.fc_in", bias=True), down=Linear("mlp.fc_out", bias=True), activation="activation_function"),
    attention_norm="ln_1",
    mlp_norm="ln_1",
    final_norm="ln_f",
    flow="parallel",
    defaults={
        "n_embd": 4096,
        "n_layer": 28,
        "n_head": 16,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": False,
    },
)

FAMILIES = (GPT2, GPT_NEO, GPT_J)
