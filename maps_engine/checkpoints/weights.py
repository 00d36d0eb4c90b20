"""The one implementation of `ModelWeights`: any family's record over any source of tensors.

Tensors are read when asked for and not kept, except the first block's, which every chunk of the vocabulary
goes through. Rows of E and U are read alone, so peak memory is one layer's tensors plus the rows asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from maps_engine.checkpoints.block_reader import BlockReader
from maps_engine.checkpoints.blocks.attention_inputs import AttentionInputs
from maps_engine.checkpoints.blocks.empty_model import EmptyModel
from maps_engine.checkpoints.blocks.residual_stream import BlockModel, ResidualStream
from maps_engine.checkpoints.blocks.text_stream import TextStream
from maps_engine.checkpoints.families.settings import Settings
from maps_engine.checkpoints.first_mlp import FirstMlp
from maps_engine.checkpoints.formats.tensor_source import Rows, TensorSource
from maps_engine.checkpoints.tensor_names import TensorNames
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel
from maps_engine.model import AttentionWeights, ModelShape, Norm, QueriesKeys, QueryKeyWeights


class FamilyWeights:
    """`ModelWeights` of one checkpoint. Raises BrokenCheckpoint at once when a needed tensor is not there."""

    def __init__(self, settings: Settings, source: TensorSource, *, device: torch.device, dtype: torch.dtype) -> None:
        names = TensorNames.found_in(settings, source.names())
        shape = settings.shape(vocab_size=source.shape(names.embedding)[0])
        self._record, self._names = settings.family, names
        self._read = BlockReader(settings, names, source, shape, device, dtype)
        self._check_sizes(source)

    @property
    def shape(self) -> ModelShape:
        return self._read.shape

    @property
    def family(self) -> str:
        return self._record.name

    @property
    def block_parameters(self) -> int:
        """Of all blocks together, every expert of a mixture included. Raises as `residuals`."""
        return sum(weight.numel() for block in self._blocks.empty.blocks for weight in block.parameters())

    @property
    def device(self) -> torch.device:
        return self._read.device

    @property
    def dtype(self) -> torch.dtype:
        return self._read.dtype

    def embedding(self, ids: Rows) -> Tensor:
        """(n, d): the vectors that enter block 0 for bare tokens; position embeddings are left out."""
        x = self._read.rows(self._names.embedding, ids)
        if self._record.scale_embedding:
            x = x * self.shape.d_model**0.5
        if self._project_in is not None:
            x = linear(x, self._project_in)
        return x if self._embedding_norm is None else self._embedding_norm(x)

    def unembedding(self, ids: Rows) -> Tensor:
        """(n, d): rows of U transposed; an output projection before U (OPT-350m) is multiplied in."""
        rows = self._read.rows(self._names.unembedding, ids)
        return rows if self._project_out is None else rows @ self._project_out

    def attention(self, layer: int) -> AttentionWeights:
        """W_V (K, d, d_h), W_O (H, d_h, d) and the value bias of one layer."""
        shape = self.shape
        value, bias = self._read.value(layer)
        output = self._read.matrix(self._names.in_block(layer, self._record.output.name))
        heads = value.reshape(shape.n_value_heads, shape.d_head, shape.d_model)
        return AttentionWeights(
            value=heads.transpose(1, 2).contiguous(),
            output=output.T.reshape(shape.n_heads, shape.d_head, shape.d_model),
            value_bias=None if bias is None else bias.reshape(shape.n_value_heads, shape.d_head),
        )

    def query_key(self, layer: int) -> QueryKeyWeights:
        """W_Q (H, d, d_h) and W_K (K, d, d_h) of one layer; gains and centring of norms on them multiplied in."""
        return QueryKeyWeights(query=self._read.query_or_key(layer, "query"), key=self._read.query_or_key(layer, "key"))

    def output_bias(self, layer: int) -> Tensor | None:
        """(d,): what the attention of `layer` adds whatever its heads do; None where it has no bias."""
        return self._read.bias(layer, self._record.output)

    def attention_norm(self, layer: int) -> Norm | None:
        if self._record.flow == "norm-after-residual":
            return None
        return self._read.block_norm(layer, self._record.attention_norm)

    def post_attention_norm(self, layer: int) -> Norm | None:
        return self._read.block_norm(layer, self._record.post_attention_norm)

    def final_norm(self) -> Norm | None:
        name = self._record.final_norm
        return self._read.norm(self._names.prefix + name) if name else None

    def first_mlp(self, x: Tensor) -> Tensor:
        """MLP_0(norm2_0(x)) on (n, d), without residual and post-norm (docs/method.md, "Source representations")."""
        return self._first(x)

    def running(self, *, dtype: torch.dtype, attention: str) -> nn.Module:
        """The model as transformers runs it, all weights in memory; `attention` is an implementation by its name.

        A GGUF file is opened so in a tenth of the time that transformers takes. Raises UnsupportedModel."""
        return EmptyModel(replace(self._read, dtype=dtype), attention=attention).fill()

    def queries_keys(self, layer: int, hidden: Tensor, *, behind: int = 0) -> QueriesKeys:
        """By transformers' own attention, stopped before the softmax; the MLP's weights are not read."""
        return self._attention_inputs.read(layer, hidden, behind=behind)

    def residuals(self, ids: Tensor, lead_in: Sequence[int]) -> ResidualStream:
        """Tokens `ids` (n,) read after `lead_in`, to be let through block by block (docs/method.md, "What a head really
        reads"). Raises UnsupportedModel where transformers does not build the blocks."""
        return ResidualStream(self._blocks, ids, lead_in)

    def texts(self, ids: Tensor, *, start: int, sees: int | None) -> TextStream:
        """Texts `ids` (b, n) to be let through block by block; raises as `residuals`, and UnsupportedModel where they
        are longer than the model has places."""
        return TextStream(self._blocks, ids, start=start, sees=sees)

    def _check_sizes(self, source: TensorSource) -> None:
        shape, names = self.shape, self._names
        rows = source.shape(names.unembedding)
        if rows != source.shape(names.embedding):
            raise _wrong_size(names.unembedding, rows, source.shape(names.embedding))
        for layer in range(shape.n_layers):
            name = names.in_block(layer, f"{self._record.output.name}.weight")
            wanted = (shape.d_model, shape.n_heads * shape.d_head)
            found = source.shape(name)
            if found != (wanted[::-1] if self._record.input_by_output else wanted):
                raise _wrong_size(name, found, wanted)

    @cached_property
    def _project_in(self) -> Tensor | None:
        name = self._record.project_in
        return self._read.matrix(self._names.prefix + name) if name else None

    @cached_property
    def _project_out(self) -> Tensor | None:
        name = self._record.project_out
        return self._read.matrix(self._names.prefix + name) if name else None

    @cached_property
    def _embedding_norm(self) -> Norm | None:
        name = self._record.embedding_norm
        return self._read.norm(self._names.prefix + name) if name else None

    @cached_property
    def _blocks(self) -> BlockModel:
        return BlockModel(self._read)

    @cached_property
    def _attention_inputs(self) -> AttentionInputs:
        return AttentionInputs(self._read)

    @cached_property
    def _first(self) -> FirstMlp:
        if self._record.mlp is None:
            raise UnsupportedModel(
                f"the first block of a {self.family} model has no single MLP",
                got=self._record.mixture or "a mixture of experts",
                expected="--source residual or embedding",
            )
        return FirstMlp(self._read, self._record.mlp)


def _wrong_size(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> BrokenCheckpoint:
    return BrokenCheckpoint(f"tensor {name} does not have the size that the config says", got=found, expected=wanted)
