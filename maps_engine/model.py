"""What the maps need of a model, as protocols: nothing that computes knows file formats or families.

Letters follow the paper: L layers, H query heads, K value heads (K < H with grouped-query attention),
d model width, d_h head width, V rows of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model; `vocab_size` counts embedding rows, padding included."""

    n_layers: int
    n_heads: int
    n_value_heads: int
    d_model: int
    d_head: int
    vocab_size: int

    def value_head_of(self, head: int) -> int:
        """The value head that query head `head` reads with: h // (H/K)."""
        return head // (self.n_heads // self.n_value_heads)


@dataclass(frozen=True)
class AttentionWeights:
    """W_V, W_O of all heads of one layer, in the convention `row vector @ matrix`."""

    value: Tensor  # (K, d, d_h)
    output: Tensor  # (H, d_h, d)
    value_bias: Tensor | None = None  # (K, d_h)


@dataclass(frozen=True)
class QueryKeyWeights:
    """W_Q and W_K of all heads of one layer, in the convention `row vector @ matrix`; biases and places left out."""

    query: Tensor  # (H, d, d_h)
    key: Tensor  # (K, d, d_h)


@dataclass(frozen=True)
class Norm:
    """A normalisation of rows, called on (n, d); `gain` and `bias` are (d,), the 1 of (1 + w) gains included."""

    kind: Literal["rms", "layer"]
    gain: Tensor | None
    bias: Tensor | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        if self.kind == "layer":
            return torch.nn.functional.layer_norm(x, x.shape[-1:], self.gain, self.bias, self.eps)
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        y = y if self.gain is None else y * self.gain
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True)
class QueriesKeys:
    """Queries and keys of one layer for texts of n tokens, their places put in, and what makes logits of them."""

    queries: Tensor  # (b, H, n, d_h)
    keys: Tensor  # (b, K, n, d_h), or (b, H, n, d_h)
    scale: float  # of products
    softcap: float | None = None  # c: logits become c tanh(logits / c)
    sinks: Tensor | None = None  # (H,): a logit beside those of the keys
    added: Tensor | None = None  # (1 or b, 1 or H, n, n): ALiBi, and -inf for keys that may not be seen

    def logits(self) -> Tensor:
        """(b, H, n, n): what the softmax over keys is given, sinks left out; -inf for keys that may not be seen."""
        groups = self.queries.shape[1] // self.keys.shape[1]
        found = self.queries @ self.keys.repeat_interleave(groups, dim=1).transpose(-1, -2) * self.scale
        if self.softcap is not None:
            found = self.softcap * torch.tanh(found / self.softcap)
        n = found.shape[-1]
        later = torch.ones(n, n, dtype=torch.bool, device=found.device).triu(1)
        return (found if self.added is None else found + self.added).masked_fill(later, -torch.inf)


class Residuals(Protocol):
    """Hidden states of tokens on their way through the blocks, each read after the same lead-in."""

    layer: int  # of the block that they are in front of

    @property
    def rows(self) -> Tensor:
        """(n, d): the residual stream that reaches the block `layer`; overwritten by `advance`."""

    @property
    def start(self) -> Tensor:
        """(s, d): what reaches the block for the tokens of the lead-in itself."""

    def advance(self) -> None:
        """Let everything pass the block `layer`. Raises BrokenCheckpoint where its tensors are not there."""


class Texts(Protocol):
    """Hidden states of whole texts on their way through the blocks."""

    layer: int  # of the block that they are in front of
    rows: Tensor  # (b, n, d): the residual stream that reaches the block `layer`

    def advance(self) -> None:
        """Let the texts pass the block `layer`. Raises BrokenCheckpoint, UnsupportedModel."""


class ModelWeights(Protocol):
    """Weights of one model, read lazily; every tensor comes back on `device` in `dtype`."""

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""

    @property
    def family(self) -> str:
        """Name of the architecture, such as "llama"."""

    @property
    def block_parameters(self) -> int:
        """How many weights all blocks have together, every expert of a mixture included. Raises UnsupportedModel."""

    @property
    def device(self) -> torch.device:
        """Where tensors come to lie."""

    @property
    def dtype(self) -> torch.dtype:
        """What tensors come back as, whatever the files hold."""

    def embedding(self, ids: Tensor | slice) -> Tensor:
        """(n, d): the vectors that enter block 0 for bare tokens, scale and embedding norm applied."""

    def unembedding(self, ids: Tensor | slice) -> Tensor:
        """(n, d): rows of U transposed, one per token."""

    def attention(self, layer: int) -> AttentionWeights:
        """W_V, W_O and value bias of all heads of `layer`."""

    def query_key(self, layer: int) -> QueryKeyWeights:
        """W_Q and W_K of all heads of `layer`, behind the attention's norm.

        Where the model norms queries and keys, the norm's gain and centring are multiplied in; its division by one
        positive number at each place is left out. Raises BrokenCheckpoint.
        """

    def attention_norm(self, layer: int) -> Norm | None:
        """The norm before the attention of `layer`; None where the block has none (OLMo 2)."""

    def post_attention_norm(self, layer: int) -> Norm | None:
        """The norm on the attention's output before the residual (Gemma 2/3, OLMo 2); else None."""

    def final_norm(self) -> Norm | None:
        """The norm before the unembedding; None where the model has none."""

    def first_mlp(self, x: Tensor) -> Tensor:
        """MLP_0(norm2_0(x)) without residual or post-norm; x is (n, d). Raises UnsupportedModel for mixtures."""

    def running(self, *, dtype: torch.dtype, attention: str) -> nn.Module:
        """The model as transformers runs it, all weights in memory. Raises UnsupportedModel, BrokenCheckpoint."""

    def queries_keys(self, layer: int, hidden: Tensor, *, behind: int = 0) -> QueriesKeys:
        """Queries and keys of `layer` for rows (b, n, d) that reach its block, at places `behind`, ... of a text.

        Raises UnsupportedModel where the model's attention is not understood.
        """

    def residuals(self, ids: Tensor, lead_in: Sequence[int]) -> Residuals:
        """Tokens `ids` (n,), each read after `lead_in`, in front of block 0. Raises UnsupportedModel."""

    def texts(self, ids: Tensor, *, start: int, sees: int | None) -> Texts:
        """Texts `ids` (b, n) in front of block 0. Raises UnsupportedModel.

        A token sees the first `start` tokens of its text, itself and the `sees` tokens before it; where `sees` is None,
        all that the model lets it see.
        """


class Vocabulary(Protocol):
    """Token ids, their texts and kinds. Never compare texts: compare ids."""

    def __hash__(self) -> int:
        """By identity: what is worked out for a vocabulary is kept for it."""

    def __len__(self) -> int:
        """Number of ids that have a text; embedding rows beyond it are unused padding."""

    def text(self, token_id: int) -> str:
        """Decoded text with its real leading space; bytes that are no UTF-8 come as <0xE4> marks."""

    @property
    def start(self) -> tuple[int, ...]:
        """Ids that the model's texts begin with; () where none is known."""

    def kind(self, token_id: int) -> Literal["normal", "special", "byte", "unused"]:
        """Text, a control token, bytes that are no complete character, or a row that no text uses."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as it stands, without special tokens."""

    def single_id(self, word: str, *, leading_space: bool = True) -> int | None:
        """The one token that spells `word` (with a leading space), or None when it takes several."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened model: weights, vocabulary, and where they came from."""

    name: str  # as the user gave it: alias, hub id, folder or file
    fingerprint: str  # content hash of the files that were opened
    location: str  # human-readable place, without secrets
    weights: ModelWeights
    vocabulary: Vocabulary
