"""The model families that are understood, one declarative record each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maps_engine.checkpoints.families import gemma, gpt, llama, neox, olmo, opt, parallel
from maps_engine.checkpoints.families.record import Family
from maps_engine.checkpoints.families.settings import Settings, settle
from maps_engine.errors import UnsupportedModel

FAMILIES: tuple[Family, ...] = tuple(
    family for part in (llama, gemma, gpt, neox, olmo, opt, parallel) for family in part.FAMILIES
)
_BY_MODEL_TYPE: Mapping[str, Family] = {kind: family for family in FAMILIES for kind in family.model_types}


def known_families() -> str:
    """The names of all families, for messages."""
    return ", ".join(sorted({family.name for family in FAMILIES}))


def family_of(model_type: object) -> Family:
    """The record for a `model_type` of config.json. Raises UnsupportedModel."""
    family = _BY_MODEL_TYPE.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise UnsupportedModel("unknown architecture", got=repr(model_type), expected=f"one of {known_families()}")
    return family


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Family and settings for a parsed config.json; a multimodal wrapper's text part is looked into."""
    text = config.get("text_config")
    if isinstance(text, Mapping) and "model_type" in text:
        config = {**text, **_inherited(config, text)}
    family = family_of(config.get("model_type"))
    return settle(family, config, known_families=known_families())


def _inherited(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """What the wrapper decides for its text part."""
    keys = ("tie_word_embeddings", "quantization_config")
    return {key: outer[key] for key in keys if key in outer and key not in inner}
