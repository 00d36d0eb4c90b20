"""A small model held in memory, with a gated MLP and RMS norms: the engine's Protocols without any file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from maps_engine.errors import UnsupportedModel
from maps_engine.model import AttentionWeights, Checkpoint, ModelShape, Norm

TINY = ModelShape(n_layers=3, n_heads=6, n_value_heads=2, d_model=48, d_head=16, vocab_size=700)


@dataclass
class MemoryWeights:
    """Plain tensors under the names of the paper; `post_norm` adds a gain on the attention's output.

    Without queries and keys its blocks cannot be run, as those of a checkpoint that transformers does not build.
    """

    shape: ModelShape
    E: Tensor
    U: Tensor  # (V, d)
    value: Tensor  # (L, K, d, d_h)
    output: Tensor  # (L, H, d_h, d)
    value_bias: Tensor | None
    norm: Norm
    post_norm: Norm | None = None
    mlp: tuple[Tensor, Tensor, Tensor] = field(default=None)  # type: ignore[assignment]
    family: str = "memory"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

    def embedding(self, ids):
        return self.E[ids]

    def unembedding(self, ids):
        return self.U[ids]

    def attention(self, layer):
        bias = None if self.value_bias is None else self.value_bias[layer]
        return AttentionWeights(value=self.value[layer], output=self.output[layer], value_bias=bias)

    def attention_norm(self, layer):
        return self.norm

    def post_attention_norm(self, layer):
        return self.post_norm

    def final_norm(self):
        return self.norm

    def first_mlp(self, x):
        gate, up, down = self.mlp
        y = self.norm(x)
        return (torch.nn.functional.silu(y @ gate) * (y @ up)) @ down

    @property
    def block_parameters(self):
        raise UnsupportedModel("a model in plain tensors has no blocks")

    def residuals(self, ids, lead_in):
        raise UnsupportedModel("a model in plain tensors has no blocks")


@dataclass
class WordVocabulary:
    """One token a word: ' w0', ' w1', …; the last `special` ids are special tokens, the first of them the start."""

    size: int
    special: int = 3
    words: tuple[str, ...] = ()

    def __len__(self):
        return self.size

    def text(self, token_id):
        if token_id < len(self.words):
            return " " + self.words[token_id]
        return f" w{token_id}"

    @property
    def start(self):
        return (self.size - self.special,) if self.special else ()

    def kind(self, token_id) -> Literal["normal", "special", "byte", "unused"]:
        return "special" if token_id >= self.size - self.special else "normal"

    def encode(self, text):
        return [i for word in text.split() if (i := self.single_id(word)) is not None]

    def single_id(self, word, *, leading_space=True):
        if word in self.words:
            return self.words.index(word)
        return int(word[1:]) if word[:1] == "w" and word[1:].isdigit() and int(word[1:]) < self.size else None


def memory_weights(shape: ModelShape = TINY, *, kind="rms", bias=True, post_norm=False, seed=0) -> MemoryWeights:
    """Random weights with a non-trivial norm gain (and bias for layer norms)."""
    g = torch.Generator().manual_seed(seed)

    def normal(*size, scale=1.0):
        return torch.randn(*size, generator=g) * scale

    d, d_h = shape.d_model, shape.d_head
    norm = Norm(kind, 1 + 0.3 * normal(d), 0.1 * normal(d) if kind == "layer" else None, 1e-5)
    return MemoryWeights(
        shape=shape,
        E=normal(shape.vocab_size, d),
        U=normal(shape.vocab_size, d),
        value=normal(shape.n_layers, shape.n_value_heads, d, d_h, scale=d**-0.5),
        output=normal(shape.n_layers, shape.n_heads, d_h, d, scale=d_h**-0.5),
        value_bias=0.2 * normal(shape.n_layers, shape.n_value_heads, d_h) if bias else None,
        norm=norm,
        post_norm=Norm(kind, 1 + 0.3 * normal(d), None, 1e-5) if post_norm else None,
        mlp=(normal(d, 2 * d, scale=d**-0.5), normal(d, 2 * d, scale=d**-0.5), normal(2 * d, d, scale=d**-0.5)),
    )


def memory_checkpoint(weights: MemoryWeights | None = None, *, words: tuple[str, ...] = ()) -> Checkpoint:
    """A checkpoint around `weights`, with one word a token."""
    weights = weights or memory_weights()
    vocabulary = WordVocabulary(weights.shape.vocab_size, words=words)
    return Checkpoint(name="memory", fingerprint="memory", location="memory", weights=weights, vocabulary=vocabulary)
