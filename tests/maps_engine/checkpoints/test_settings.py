"""Configs: published ones pass with the right sizes, and all that is not understood is named in one error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maps_engine.checkpoints.families.activations import ACTIVATIONS
from maps_engine.checkpoints.families.registry import FAMILIES, family_of, known_families, settings_of
from maps_engine.errors import UnsupportedModel

# what config.json of published checkpoints holds, in old and new writing styles, and the sizes it means
PUBLISHED = json.loads((Path(__file__).parent / "published_configs.json").read_text("utf-8"))
LLAMA = PUBLISHED["llama-3.1-8b"]["config"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_pass_with_their_sizes(name):
    shape = settings_of(PUBLISHED[name]["config"]).shape(vocab_size=1)
    assert {
        "layers": shape.n_layers,
        "heads": shape.n_heads,
        "value_heads": shape.n_value_heads,
        "width": shape.d_model,
        "head_width": shape.d_head,
    } == PUBLISHED[name]["sizes"]


def test_every_family_has_a_published_config():
    seen = {settings_of(config).family.name for config in (entry["config"] for entry in PUBLISHED.values())}
    assert {family.name for family in FAMILIES} == seen


@pytest.mark.parametrize("model_type", [kind for family in FAMILIES for kind in family.model_types])
def test_declared_defaults_are_those_of_transformers(model_type):
    """A key left out of config.json means what transformers' own config class takes it to mean."""
    from transformers import CONFIG_MAPPING

    if model_type == "gemma3":
        pytest.skip("a wrapper: its text part is gemma3_text")
    theirs = CONFIG_MAPPING[model_type]().to_dict()
    for key, value in family_of(model_type).defaults.items():
        derived = {"num_key_value_heads": "num_attention_heads", "num_kv_heads": "num_attention_heads"}
        if value is None and key in derived:
            assert theirs[key] == theirs[derived[key]], key
        elif value is None and key == "head_dim":
            assert theirs.get(key) in (None, theirs["hidden_size"] // theirs["num_attention_heads"], 128), key
        elif value is None and key == "word_embed_proj_dim":
            assert theirs[key] == theirs["hidden_size"]
        else:
            assert theirs[key] == value, key


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_transformers(name):
    from transformers.activations import ACT2FN

    if name == "gelu_python_tanh" and name not in ACT2FN:
        pytest.skip("not known to this version of transformers")
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(ACTIVATIONS[name](x), ACT2FN[name](x), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"embedding_multiplier": 12.0}, "embedding_multiplier = 12.0"),
        ({"residual_multiplier": 0.2}, "residual_multiplier = 0.2"),
        ({"hidden_act": "xielu"}, "hidden_act = 'xielu'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"quantization": {"bits": 4}}, "quantization = {'bits': 4}"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder = True"),
        ({"add_cross_attention": True}, "add_cross_attention = True"),
        ({"clip_qkv": 8.0}, "clip_qkv = 8.0"),
        ({"num_attention_heads": 0}, "num_attention_heads = 0"),
        ({"num_attention_heads": "32"}, "num_attention_heads = '32'"),
        ({"num_hidden_layers": True}, "num_hidden_layers = True"),
        ({"num_key_value_heads": 5}, "num_attention_heads = 32 with num_key_value_heads = 5"),
        ({"hidden_size": 4095}, "hidden_size = 4095 with num_attention_heads = 32"),
        ({"head_dim": [64, 128]}, "head_dim = [64, 128]"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps = 'small'"),
        ({"pruned_heads": {"1": [0]}}, "pruned_heads"),
    ],
)
def test_what_is_not_understood_is_refused_and_named(change, named):
    with pytest.raises(UnsupportedModel) as error:
        settings_of({**LLAMA, **change})
    assert named in str(error.value)
    assert "families" in str(error.value)
    assert "gpt_neox" in str(error.value)


def test_one_error_lists_everything():
    with pytest.raises(UnsupportedModel) as error:
        settings_of({**LLAMA, "hidden_act": "xielu", "mup_base": 256, "attention_clip": 3.0})
    for word in ("hidden_act", "mup_base = 256", "attention_clip = 3.0"):
        assert word in str(error.value)


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_unknown_keys_with_nothing_in_them_pass(value):
    settings_of({**LLAMA, "some_new_switch": value})


@pytest.mark.parametrize(
    "change",
    [
        {"new_decoder_architecture": True, "parallel_attn": False, "num_kv_heads": 1},
        {"num_ln_in_parallel_attn": 2},
        {"num_ln_in_parallel_attn": 3},
        {"apply_residual_connection_post_layernorm": True},
    ],
)
def test_falcons_that_do_not_exist_are_refused(change):
    with pytest.raises(UnsupportedModel):
        settings_of({**PUBLISHED["falcon-7b"]["config"], **change})


@pytest.mark.parametrize("model_type", [None, "mamba", 7, ["llama"], "LLAMA"])
def test_unknown_architecture_lists_the_known_ones(model_type):
    with pytest.raises(UnsupportedModel, match="unknown architecture") as error:
        settings_of({**LLAMA, "model_type": model_type})
    assert known_families() in str(error.value)


def test_config_without_a_model_type():
    with pytest.raises(UnsupportedModel, match=r"unknown architecture: got None"):
        settings_of({"hidden_size": 4})


def test_both_spellings_of_a_key():
    gpt2 = PUBLISHED["gpt2"]["config"]
    renamed = {key: value for key, value in gpt2.items() if key not in ("n_embd", "n_head")}
    shape = settings_of({**renamed, "hidden_size": 96, "num_attention_heads": 3}).shape(1)
    assert (shape.d_model, shape.n_heads) == (96, 3)
    both = settings_of({**gpt2, "hidden_size": 96}).shape(1)
    assert both.d_model == 768


@given(st.dictionaries(st.text(max_size=12), st.one_of(st.none(), st.integers(), st.text(max_size=5))))
def test_any_config_settles_or_is_refused_in_one_line(extra):
    refusal = ""
    try:
        settings_of({**LLAMA, **extra})
    except UnsupportedModel as error:
        refusal = str(error)
    assert "\n" not in refusal


def test_records_do_not_share_a_model_type():
    kinds = [kind for family in FAMILIES for kind in family.model_types]
    assert len(kinds) == len(set(kinds))
