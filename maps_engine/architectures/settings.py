"""Reading a config.json for a family: defaults filled in, and one error for all that is not understood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from maps_engine.architectures.activations import ACTIVATIONS
from maps_engine.architectures.harmless import is_harmless
from maps_engine.architectures.record import Family
from maps_engine.errors import UnsupportedModel
from maps_engine.model import ModelShape

_ONLY_EVERYWHERE: Mapping[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "compression_config": (None,),
}
_TRIVIAL = (None, False, "", [], {})


@dataclass(frozen=True)
class Settings:
    """A family settled for one checkpoint, its config values, and its sizes (V is left to the embedding)."""

    family: Family
    values: Mapping[str, Any]

    def flag(self, value: bool | str) -> bool:
        """`value` itself, or what the config says where it names a key."""
        return bool(self.values[value]) if isinstance(value, str) else value

    def number(self, value: float | str) -> float:
        return float(self.values[value]) if isinstance(value, str) else value

    def shape(self, vocab_size: int) -> ModelShape:
        keys = self.family.sizes
        width, heads = int(self.values[keys.width]), int(self.values[keys.heads])
        value_heads = self.values.get(keys.value_heads) if keys.value_heads else None
        head_width = self.values.get(keys.head_width) if keys.head_width else None
        return ModelShape(
            n_layers=int(self.values[keys.layers]),
            n_heads=heads,
            n_value_heads=int(value_heads or heads),
            d_model=width,
            d_head=int(head_width or width // heads),
            vocab_size=vocab_size,
        )


def settle(family: Family, config: Mapping[str, Any], *, known_families: str = "") -> Settings:
    """The family as this config has it. Raises UnsupportedModel listing everything not understood."""
    given = {family.aliases.get(key, key): value for key, value in config.items()}
    values = {**family.defaults, **given}
    problems = [*_unknown_keys(family, given), *_bad_values(family, values), *_bad_sizes(family, values)]
    if problems:
        raise UnsupportedModel(
            f"this {family.name} model has attributes that are not understood",
            got="; ".join(problems),
            expected=f"a plain model of one of the families {known_families}".strip(),
        )
    settled = family.variant(family, values) if family.variant else family
    return Settings(settled, values)


def _unknown_keys(family: Family, given: Mapping[str, Any]) -> Iterator[str]:
    understood = {*family.defaults, *family.only, *_ONLY_EVERYWHERE, *family.harmless}
    for key, value in given.items():
        if key not in understood and not is_harmless(key) and value not in _TRIVIAL:
            yield f"{key} = {value!r}"


def _bad_values(family: Family, values: Mapping[str, Any]) -> Iterator[str]:
    for key, allowed in {**_ONLY_EVERYWHERE, **family.only}.items():
        if key in values and values[key] not in allowed:
            yield f"{key} = {values[key]!r} (understood: {', '.join(map(repr, allowed))})"
    if family.mlp is not None and values[family.mlp.activation] not in ACTIVATIONS:
        named = values[family.mlp.activation]
        yield f"{family.mlp.activation} = {named!r} (understood: {', '.join(sorted(ACTIVATIONS))})"


def _bad_sizes(family: Family, values: Mapping[str, Any]) -> Iterator[str]:
    keys = family.sizes
    for key in (keys.width, keys.layers, keys.heads):
        if not _is_count(values.get(key)):
            yield f"{key} = {values.get(key)!r} (understood: a whole number above 0)"
    for optional in (keys.value_heads, keys.head_width):
        if optional and values.get(optional) is not None and not _is_count(values[optional]):
            yield f"{optional} = {values[optional]!r} (understood: a whole number above 0)"
    heads, value_heads = values.get(keys.heads), values.get(keys.value_heads or "")
    if _is_count(heads) and _is_count(value_heads) and heads % value_heads:
        yield f"{keys.heads} = {heads} with {keys.value_heads} = {value_heads} (understood: a multiple)"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
