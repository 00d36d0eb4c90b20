"""GGUF architectures that can be read, and how their files differ from transformers' checkpoints.

llama.cpp's converter renames tensors, adds the 1 to Gemma's norm gains, transposes GPT-2's matrices and sorts
Falcon's fused rows into [Q; K; V]; a dialect says which, by replacing fields of the family's record.
It also permutes Llama's queries and keys, which the maps never read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gguf.constants import MODEL_ARCH_NAMES
from gguf.tensor_mapping import get_tensor_name_map

from maps_engine.checkpoints.families.record import Family, Linear
from maps_engine.checkpoints.families.registry import family_of, known_families
from maps_engine.checkpoints.families.settings import Settings, settle
from maps_engine.checkpoints.formats.gguf_header import GgufHeader
from maps_engine.checkpoints.formats.gguf_source import GgufSource
from maps_engine.checkpoints.formats.tensor_source import RenamedSource
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel


@dataclass(frozen=True)
class GgufDialect:
    """How one `general.architecture` maps to a family."""

    model_type: str
    adds_one_to_gains: bool = False  # the file's gains already hold Gemma's 1
    transposes: bool = False  # GPT-2's matrices become (out, in)
    sorts_qkv: bool = False  # Falcon's interleaved rows become [Q; K; V]


DIALECTS: Mapping[str, GgufDialect] = {
    "llama": GgufDialect("llama"),
    "smollm3": GgufDialect("smollm3"),
    "qwen2": GgufDialect("qwen2"),
    "qwen3": GgufDialect("qwen3"),
    "phi3": GgufDialect("phi3"),
    "gemma": GgufDialect("gemma", adds_one_to_gains=True),
    "gemma2": GgufDialect("gemma2", adds_one_to_gains=True),
    "gemma3": GgufDialect("gemma3_text", adds_one_to_gains=True),
    "gpt2": GgufDialect("gpt2", transposes=True),
    "falcon": GgufDialect("falcon", sorts_qkv=True),
}

_HARMLESS = re.compile(
    r"context_length|embedding_length|block_count|feed_forward_length|rope\..*|vocab_size|tensor_data_layout"
    r"|attention\.(head_count|head_count_kv|key_length.*|value_length.*|layer_norm_rms_epsilon|layer_norm_epsilon)"
    r"|attention\.(sliding_window.*|causal)|attn_logit_softcapping|final_logit_softcapping|expert_(used_)?count|mm\..*"
)


def open_gguf(header: GgufHeader) -> tuple[Settings, RenamedSource]:
    """Settings and tensors under transformers' names. Raises UnsupportedModel, BrokenCheckpoint."""
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
    family = family_of("mixtral" if _own(header, "expert_count", 0) else dialect.model_type)
    settings = settle(family, _config(header, family), known_families=known_families())
    n_layers = int(settings.values[family.sizes.layers])
    source = RenamedSource(GgufSource(header), _names(header, n_layers))
    return replace(settings, family=_in_dialect(settings.family, dialect, source.names())), source


def _in_dialect(record: Family, dialect: GgufDialect, held: frozenset[str]) -> Family:
    if dialect.adds_one_to_gains:
        record = replace(record, norm=replace(record.norm, plus_one=False))
    if dialect.transposes:
        record = replace(record, input_by_output=False)
    if dialect.sorts_qkv:
        record = replace(record, fused_qkv="stacked")
    return _with_biases_of(record, held)


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


def _config(header: GgufHeader, family: Family) -> dict[str, Any]:
    """The keys of config.json that decide the map, from the file's metadata."""
    keys, heads = family.sizes, _need(header, "attention.head_count")
    config: dict[str, Any] = {
        keys.layers: _need(header, "block_count"),
        keys.width: _need(header, "embedding_length"),
        keys.heads: heads,
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }
    if keys.value_heads:
        config[keys.value_heads] = _own(header, "attention.head_count_kv", heads)
    if keys.head_width:
        config[keys.head_width] = _own(header, "attention.value_length", None)
    if isinstance(family.norm.eps, str):
        epsilon = _own(header, "attention.layer_norm_rms_epsilon", None)
        config[family.norm.eps] = epsilon or _need(header, "attention.layer_norm_epsilon")
    if family.name == "falcon":
        # 7B is the grouped layout with one value head, so one description serves both
        norms = 2 if "blk.0.attn_norm_2.weight" in header.tensors else 1
        config |= {"new_decoder_architecture": True, "num_ln_in_parallel_attn": norms}
    return config


def _own(header: GgufHeader, key: str, default: Any) -> Any:
    return header.metadata.get(f"{header.architecture}.{key}", default)


def _need(header: GgufHeader, key: str) -> Any:
    value = _own(header, key, None)
    if value is None:
        raise BrokenCheckpoint("the GGUF file lacks metadata", got=f"no {header.architecture}.{key}")
    return value


def _names(header: GgufHeader, n_layers: int) -> dict[str, str]:
    """transformers' tensor name -> the file's; several spellings of one tensor are all in it."""
    architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    table = get_tensor_name_map(architecture, n_layers).mapping
    kinds = ("weight", "bias")
    names = {f"{name}.{kind}": f"{short}.{kind}" for name, (_, short) in table.items() for kind in kinds}
    return names | {"lm_head.weight": "output.weight"}


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
