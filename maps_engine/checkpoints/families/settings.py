"""Reading a config.json for a family: defaults filled in, and one error for all that is not understood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from maps_engine.checkpoints.families.activations import ACTIVATIONS
from maps_engine.checkpoints.families.harmless import is_harmless
from maps_engine.checkpoints.families.record import Family, SizeKeys
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
_TRIVIAL: tuple[Any, ...] = (None, False, "", [], {})


@dataclass(frozen=True)
class Settings:
    """A family settled for one checkpoint, its config values, and its sizes (V is left to the embedding)."""

    family: Family
    values: Mapping[str, Any]
    given: Mapping[str, Any] = field(default_factory=dict)  # of `values`, what the checkpoint itself says

    def flag(self, value: bool | str) -> bool:
        """`value` itself, or what the config says where it names a key."""
        return bool(self.values[value]) if isinstance(value, str) else value

    @property
    def activation(self) -> Callable[[Tensor], Tensor]:
        """The first MLP's activation function."""
        return ACTIVATIONS[_activation_name(self.family, self.values)]

    def number(self, value: float | str) -> float:
        """`value` itself, or what the config says where it names a key."""
        return float(self.values[value]) if isinstance(value, str) else value

    def shape(self, vocab_size: int) -> ModelShape:
        """Sizes of the model as the config gives them."""
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
    given = _canonical(family, config)
    values = {**family.defaults, **given}
    if family.derived:
        values |= family.derived(values)
    problems = [*_unknown_keys(family, given), *_bad_values(family, values), *_bad_sizes(family, values)]
    problems += family.problems(values) if family.problems else []
    if problems:
        raise UnsupportedModel(
            f"this {family.name} model has attributes that are not understood",
            got="; ".join(problems),
            expected=f"a plain model of one of the families {known_families}" if known_families else None,
        )
    return Settings(family.variant(family, values) if family.variant else family, values, given)


def _canonical(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config under the family's own spelling of each key; where both are given, its own wins."""
    renamed = {family.aliases[key]: value for key, value in config.items() if key in family.aliases}
    return renamed | {key: value for key, value in config.items() if key not in family.aliases}


def _unknown_keys(family: Family, given: Mapping[str, Any]) -> Iterator[str]:
    understood = {*family.defaults, *family.only, *_ONLY_EVERYWHERE, *family.harmless}
    for key, value in given.items():
        if key not in understood and not is_harmless(key) and value not in _TRIVIAL:
            yield f"{key} = {_short(value)}"


def _bad_values(family: Family, values: Mapping[str, Any]) -> Iterator[str]:
    for key, allowed in {**_ONLY_EVERYWHERE, **family.only}.items():
        if key in values and key not in family.harmless and values[key] not in allowed:
            yield f"{key} = {_short(values[key])} (understood: {', '.join(map(repr, allowed))})"
    if family.mlp is not None and _activation_name(family, values) not in ACTIVATIONS:
        named = values[family.mlp.activation]
        yield f"{family.mlp.activation} = {_short(named)} (understood: {', '.join(sorted(ACTIVATIONS))})"
    epsilon = family.norm.eps
    if isinstance(epsilon, str) and not isinstance(values[epsilon], int | float):
        yield f"{epsilon} = {_short(values[epsilon])} (understood: a number)"


def _activation_name(family: Family, values: Mapping[str, Any]) -> str:
    named = family.mlp.activation if family.mlp else ""
    return str(values[named]) if named in values else named


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _bad_sizes(family: Family, values: Mapping[str, Any]) -> Iterator[str]:
    keys = family.sizes
    for key in (keys.width, keys.layers, keys.heads):
        if not _is_count(values.get(key)):
            yield f"{key} = {_short(values.get(key))} (understood: a whole number above 0)"
    for optional in (keys.value_heads, keys.head_width):
        if optional and values.get(optional) is not None and not _is_count(values[optional]):
            yield f"{optional} = {_short(values[optional])} (understood: a whole number above 0)"
    yield from _uneven_sizes(values, keys)


def _uneven_sizes(values: Mapping[str, Any], keys: SizeKeys) -> Iterator[str]:
    width, heads = values.get(keys.width), values.get(keys.heads)
    value_heads = values.get(keys.value_heads) if keys.value_heads else None
    if not isinstance(width, int) or not isinstance(heads, int) or heads < 1:
        return
    if isinstance(value_heads, int) and value_heads > 0 and heads % value_heads:
        yield f"{keys.heads} = {heads} with {keys.value_heads} = {value_heads} (understood: a multiple)"
    if width % heads and not (keys.head_width and values.get(keys.head_width)):
        yield f"{keys.width} = {width} with {keys.heads} = {heads} (understood: a multiple)"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
