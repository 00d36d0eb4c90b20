"""GGUF architectures that can be read: which family each is, and its configuration in transformers' words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gguf.constants import MODEL_ARCH_NAMES
from gguf.tensor_mapping import get_tensor_name_map

from maps_engine.checkpoints.families.record import Family, Linear
from maps_engine.checkpoints.families.registry import family_of, known_families
from maps_engine.checkpoints.families.settings import Settings, settle
from maps_engine.checkpoints.formats.gguf_file.config import config_of
from maps_engine.checkpoints.formats.gguf_file.header import GgufHeader
from maps_engine.checkpoints.formats.gguf_file.layout import Layout, RestoredSource
from maps_engine.checkpoints.formats.gguf_file.source import GgufSource
from maps_engine.checkpoints.formats.tensor_source import ROTARY_FACTORS, TWO_ROTARY_FACTORS, RenamedSource
from maps_engine.errors import UnsupportedModel


@dataclass(frozen=True)
class GgufDialect:
    """How one `general.architecture` maps to a family."""

    model_type: str
    layout: Layout


_PLAIN, _ROTARY, _GEMMA = Layout(), Layout(interleaves_rotary=True), Layout(adds_one_to_gains=True)
DIALECTS: Mapping[str, GgufDialect] = {
    "llama": GgufDialect("llama", _ROTARY),
    "smollm3": GgufDialect("smollm3", _ROTARY),
    "qwen2": GgufDialect("qwen2", _PLAIN),
    "qwen3": GgufDialect("qwen3", _PLAIN),
    "phi3": GgufDialect("phi3", _PLAIN),
    "gemma": GgufDialect("gemma", _GEMMA),
    "gemma2": GgufDialect("gemma2", _GEMMA),
    "gemma3": GgufDialect("gemma3_text", _GEMMA),
    "gpt2": GgufDialect("gpt2", Layout(transposes=True)),
    "falcon": GgufDialect("falcon", Layout(sorts_qkv=True)),
}

_HARMLESS = re.compile(
    r"context_length|embedding_length|block_count|feed_forward_length|rope\..*|vocab_size|tensor_data_layout"
    r"|attention\.(head_count|head_count_kv|key_length.*|value_length.*|layer_norm_rms_epsilon|layer_norm_epsilon)"
    r"|attention\.(sliding_window.*|causal)|attn_logit_softcapping|final_logit_softcapping|expert_(used_)?count|mm\..*"
)


def open_gguf(header: GgufHeader) -> tuple[Settings, RestoredSource]:
    """Settings and tensors as transformers has them. Raises UnsupportedModel, BrokenCheckpoint."""
    dialect = DIALECTS.get(header.architecture)
    if dialect is None:
        raise UnsupportedModel(
            "GGUF files of this architecture cannot be read",
            got=header.architecture or "no general.architecture",
            expected=f"one of {', '.join(sorted(DIALECTS))}",
            next_step="Use the original safetensors checkpoint.",
        )
    _refuse_split(header)
    _refuse_unknown_keys(header)
    family = family_of("mixtral" if header.own("expert_count") else dialect.model_type)
    settings = settle(family, config_of(header, family), known_families=known_families())
    shape = settings.shape(vocab_size=0)
    renamed = RenamedSource(GgufSource(header), _names(header, shape.n_layers))
    source = RestoredSource(renamed, dialect.layout, heads=shape.n_heads, value_heads=shape.n_value_heads)
    return replace(settings, family=_with_biases_of(settings.family, source.names())), source


def _refuse_split(header: GgufHeader) -> None:
    if (header.metadata.get("split.count") or 1) > 1:
        raise UnsupportedModel(
            "this GGUF file is one part of several",
            got=f"{header.metadata['split.count']} parts",
            expected="a single file",
            next_step="Merge the parts with llama.cpp's gguf-split.",
        )


def _refuse_unknown_keys(header: GgufHeader) -> None:
    start = f"{header.architecture}."
    own = {key.removeprefix(start): value for key, value in header.metadata.items() if key.startswith(start)}
    unknown = [f"{key} = {value!r}" for key, value in own.items() if not _HARMLESS.fullmatch(key) and value]
    if unknown:
        raise UnsupportedModel("this GGUF file has attributes that are not understood", got="; ".join(unknown))


def _names(header: GgufHeader, n_layers: int) -> dict[str, str]:
    """transformers' tensor name -> the file's; several spellings of one tensor are all in it."""
    architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    table = get_tensor_name_map(architecture, n_layers).mapping
    kinds = ("weight", "bias")
    names = {f"{name}.{kind}": f"{short}.{kind}" for name, (_, short) in table.items() for kind in kinds}
    return names | {"lm_head.weight": "output.weight"} | {name: name for name in (ROTARY_FACTORS, TWO_ROTARY_FACTORS)}


def _with_biases_of(record: Family, held: frozenset[str]) -> Family:
    """Biases that a config key would decide, decided by their presence: GGUF keeps no such keys."""

    def settled(part: Linear) -> Linear:
        if not isinstance(part.bias, str):
            return part
        name = record.prefixes[0] + record.block.format(layer=0) + f"{part.name}.bias"
        return replace(part, bias=name in held)

    mlp = record.mlp
    if mlp is not None:
        mlp = replace(mlp, up=settled(mlp.up), down=settled(mlp.down), gate=settled(mlp.gate) if mlp.gate else None)
    return replace(record, value=settled(record.value), output=settled(record.output), mlp=mlp)
