"""transformers' own modules of a model without its weights: one block at a time is filled and emptied again.

Every family's block is transformers' code, so that attention, positions, norms, experts and scales are the model's own
and are not written a second time here. Parameters lie on torch's "meta" device, which has shapes and no memory, until
the tensors of a block are read. What is computed from the configuration, such as rotary frequencies, is made at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maps_engine.checkpoints.block_reader import BlockReader
from maps_engine.checkpoints.blocks.experts import joined_experts
from maps_engine.checkpoints.formats.tensor_source import ROTARY_FACTORS, TWO_ROTARY_FACTORS, missing_tensors
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_OF_MLP = re.compile(r"(mlp|block_sparse_moe|fc1|fc2)\b")  # as transformers' blocks name it


class EmptyModel:
    """The decoder of one checkpoint. `decoder` holds the list of `blocks` and all that is computed before them.

    Raises UnsupportedModel for a configuration that transformers does not build, BrokenCheckpoint for tensors that the
    checkpoint lacks.
    """

    def __init__(self, reader: BlockReader, *, attention: str | None = None) -> None:
        """`attention`: transformers' name of an implementation; None takes what it would."""
        self._reader = reader
        self.model = _built(reader.settings.given, reader.dtype, attention)
        self.config = self.model.config
        self.model.eval().requires_grad_(False)
        _make_buffers(self.model, reader.device)
        self._scale_rotary()
        self.decoder, self._list = _decoder(self.model, reader.settings.family.block)
        self.blocks: tuple[nn.Module, ...] = tuple(getattr(self.decoder, self._list))
        self.embeddings = self.decoder.get_input_embeddings()
        self._fill_what_is_outside()

    def replace_blocks(self, others: nn.ModuleList) -> None:
        """Put `others` where the decoder calls its blocks; `blocks` stays what it was."""
        setattr(self.decoder, self._list, others)

    def fill(self) -> PreTrainedModel:
        """The whole model with all its weights, ready to run. Raises BrokenCheckpoint."""
        names, source, place = self._reader.names, self._reader.source, self._reader.place
        for layer in range(len(self.blocks)):
            self._load(layer)
        output = self.model.get_output_embeddings()
        self.embeddings.weight = nn.Parameter(place(source.read(names.embedding)))
        output.weight = self.embeddings.weight
        self.config.vocab_size = len(output.weight)  # what configuration of a GGUF file does not say
        if names.unembedding != names.embedding:
            output.weight = nn.Parameter(place(source.read(names.unembedding)))
        bias = names.unembedding.removesuffix("weight") + "bias"
        if output.bias is not None and bias in source.names():
            output.bias = nn.Parameter(place(source.read(bias)))
        return self.model.requires_grad_(False)

    @contextmanager
    def filled(self, layer: int, *, attention_only: bool = False) -> Iterator[nn.Module]:
        """The block of `layer` with its weights, which are let go of afterwards. Raises BrokenCheckpoint.

        attention_only: no weights of the MLP are read; whoever runs the block stops before it.
        """
        block = self.blocks[layer]
        self._load(layer, attention_only=attention_only)
        try:
            yield block
        finally:
            block.load_state_dict({n: t.to("meta") for n, t in block.state_dict().items()}, assign=True)

    def _load(self, layer: int, *, attention_only: bool = False) -> None:
        block, prefix = self.blocks[layer], self._reader.names.in_block(layer, "")
        try:
            block.load_state_dict(self._tensors(block, prefix, attention_only), assign=True, strict=not attention_only)
        except RuntimeError as error:
            got = str(error).splitlines()[-1].strip()
            raise BrokenCheckpoint("tensors of a block do not have the sizes that the config says", got=got) from error
        block.requires_grad_(False)

    def _tensors(self, module: nn.Module, prefix: str, attention_only: bool) -> dict[str, Tensor]:
        source, wanted = self._reader.source, list(module.state_dict())
        if attention_only:
            wanted = [name for name in wanted if not _OF_MLP.match(name)]
        held = source.names()
        found = {name: source.read(prefix + name) for name in wanted if prefix + name in held}
        absent = [name for name in wanted if name not in found]
        found |= joined_experts(source, prefix, absent)
        missing = [prefix + name for name in wanted if name not in found]
        if any(f"{name}_blocks" in held for name in missing):
            raise UnsupportedModel("experts that are kept in 4 bits cannot be run", next_step="Use a bfloat16 copy.")
        if missing:
            raise missing_tensors(missing)
        return {name: self._reader.place(tensor) for name, tensor in found.items()}

    def _scale_rotary(self) -> None:
        """Llama 3.1's longer contexts: GGUF files hold what each rotary frequency is divided by, and no setting."""
        held = self._reader.source.names()
        if TWO_ROTARY_FACTORS in held:
            raise UnsupportedModel("rotary factors for two lengths of context cannot be run", got=TWO_ROTARY_FACTORS)
        if ROTARY_FACTORS in held:
            factors = self._reader.source.read(ROTARY_FACTORS).to(self._reader.device)
            for module in self.model.modules():
                if isinstance(getattr(module, "inv_freq", None), Tensor):
                    module.inv_freq = module.inv_freq / factors

    def _fill_what_is_outside(self) -> None:
        """Position embeddings, projections and norms outside the blocks; rows of E come with each call."""
        prefix, held = self._reader.names.prefix, self._reader.source.names()
        own = [name for name, one in self.decoder.named_parameters() if one is not self.embeddings.weight]
        names = [name for name in own if not name.startswith(f"{self._list}.")]
        missing = [prefix + name for name in names if prefix + name not in held]
        if missing:
            raise missing_tensors(missing)
        tensors = {name: self._reader.place(self._reader.source.read(prefix + name)) for name in names}
        self.decoder.load_state_dict(tensors, assign=True, strict=False)
        self.decoder.requires_grad_(False)


def _built(values: Mapping[str, Any], dtype: torch.dtype, attention: str | None) -> PreTrainedModel:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    plain = {key: value for key, value in values.items() if key not in ("quantization_config", "dtype", "torch_dtype")}
    try:
        config = CONFIG_MAPPING[plain["model_type"]].from_dict(plain)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise UnsupportedModel(
            "transformers does not build the blocks of this model",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            next_step="Read it with --source first-mlp or --source embedding.",
        ) from error


def _make_buffers(model: PreTrainedModel, device: torch.device) -> None:
    """Buffers that no checkpoint holds, as transformers itself makes them when it loads a model."""
    for module in model.modules():
        empty = [name for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        for name in empty:
            setattr(module, name, torch.empty_like(getattr(module, name), device=device))
        if empty:
            model._init_weights(module)


def _decoder(model: PreTrainedModel, block: str) -> tuple[Any, str]:
    """The module that calls the blocks, and the name of its list of them."""
    wanted = block.split(".")[0]
    for name, module in model.named_modules():
        parent, _, last = name.rpartition(".")
        if isinstance(module, nn.ModuleList) and last == wanted:
            return model.get_submodule(parent), last
    raise UnsupportedModel("the blocks of this model were not found", got=type(model).__name__, expected=wanted)
