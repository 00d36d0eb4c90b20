"""What differs between model families, as data: where the tensors lie and how a block computes.

One `Family` per architecture; `maps_engine.checkpoints.weights` reads them all with the same code. Tensor names are
those of transformers' checkpoints, without ".weight" and ".bias"; names of a block are relative to it.
A `str` where a yes/no or number is expected names the key of config.json that decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Flow = Literal["sequential", "parallel", "norm-after-residual"]
"""How attention and MLP share a block, with n1, n2 norms before and p1, p2 on the branch outputs:
sequential: h = x + p1(attn(n1 x)); out = h + p2(mlp(n2 h)).   parallel: out = x + attn(n1 x) + mlp(n2 x).
norm-after-residual (OPT-350m): h = n1(x + attn(x)); out = n2(h + mlp(h))."""

FusedQkv = Literal["no", "stacked", "grouped"]
"""no: V has its own tensor. stacked: rows [Q; K; V]. grouped: for each value head its queries, its key, its value."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of a block."""

    name: str
    bias: bool | str = False


@dataclass(frozen=True, slots=True)
class NormStyle:
    """The norm a family uses everywhere. `affine=False`: no gain, no bias (OLMo 1)."""

    kind: Literal["rms", "layer"]
    eps: str | float
    bias: bool | str = False
    plus_one: bool = False
    affine: bool = True


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """Norms on queries and keys, as names of tensors that hold their gains.

    A gain is (d_h), shared by all heads, or has a part for each head; "{head}" stands in the name where each head has a
    tensor of its own.
    """

    query: str
    key: str
    kind: Literal["rms", "layer"]
    used: bool | str = True


@dataclass(frozen=True, slots=True)
class Mlp:
    """down(act(up x)), or with a gate down(act(gate x) * up x). `fused`: `up` holds rows [gate; up].

    `activation` names an activation, or the key of config.json that names one.
    """

    up: Linear
    down: Linear
    gate: Linear | None = None
    fused: bool = False
    activation: str = "hidden_act"

    @property
    def linears(self) -> tuple[Linear, ...]:
        """All linear layers of the MLP."""
        return (self.up, self.down) if self.gate is None else (self.up, self.down, self.gate)


@dataclass(frozen=True, slots=True)
class SizeKeys:
    """Which keys of config.json hold the sizes; None where the family has no such key."""

    width: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    value_heads: str | None = "num_key_value_heads"
    head_width: str | None = None


@dataclass(frozen=True)
class Family:
    """One architecture. `defaults` holds every key that decides the computation, with the value that
    transformers' config class assumes where config.json leaves it out."""

    name: str
    model_types: tuple[str, ...]
    norm: NormStyle
    value: Linear
    output: Linear
    mlp: Mlp | None
    defaults: Mapping[str, Any]
    sizes: SizeKeys = SizeKeys()
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # key -> the values that are understood
    harmless: frozenset[str] = frozenset()  # keys of this family that do not touch the maps
    aliases: Mapping[str, str] = field(default_factory=dict)  # other spelling of a key -> its spelling here
    prefixes: tuple[str, ...] = ("model.", "", "language_model.model.", "model.language_model.")
    embedding: str = "embed_tokens"
    block: str = "layers.{layer}."
    fused_qkv: FusedQkv = "no"
    head_norms: HeadNorms | None = None
    input_by_output: bool = False  # GPT-2's Conv1D keeps matrices as (in, out)
    attention_norm: str | None = "input_layernorm"
    mlp_norm: str | None = "post_attention_layernorm"
    post_attention_norm: str | None = None
    post_mlp_norm: str | None = None
    final_norm: str | None = "norm"
    flow: Flow = "sequential"
    mixture: str | None = None  # why there is no single first MLP
    scale_embedding: bool = False  # by sqrt(d): Gemma
    embedding_norm: str | None = None
    project_in: str | None = None
    project_out: str | None = None
    unembedding: tuple[str, ...] = ("lm_head", "language_model.lm_head")  # full names, first that exists
    tied: bool | str = "tie_word_embeddings"
    derived: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None  # values that other keys decide
    problems: Callable[[Mapping[str, Any]], list[str]] | None = None  # combinations that are not understood
    variant: Callable[[Family, Mapping[str, Any]], Family] | None = None  # the record as a config has it

    @property
    def query(self) -> Linear:
        """Where the query has a tensor of its own, it stands beside the value's in every family."""
        return Linear(self.value.name.replace("v_proj", "q_proj"), self.value.bias)

    @property
    def key(self) -> Linear:
        """As `query`."""
        return Linear(self.value.name.replace("v_proj", "k_proj"), self.value.bias)


GATED_MLP = Mlp(up=Linear("mlp.up_proj"), down=Linear("mlp.down_proj"), gate=Linear("mlp.gate_proj"))
