"""A transformers model that is in memory already, read as if it were a checkpoint.

Nothing is copied but the tensors that are asked for, one at a time. Weights that are changed afterwards are read as
they are then, while the hash is that of the moment of opening: open the model again after changing it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from torch import Tensor

from maps_engine.checkpoints.families.registry import settings_of
from maps_engine.checkpoints.formats.folder_checkpoint import ids_of, special_ids
from maps_engine.checkpoints.formats.opened import OpenedFiles
from maps_engine.checkpoints.formats.tensor_source import Rows, owner_of, row_indices
from maps_engine.errors import UnsupportedModel, UserMistake

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def open_memory_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | Tokenizer | None) -> OpenedFiles:
    """Raises UserMistake (no model, no tokenizer), UnsupportedModel (family, quantised or offloaded weights)."""
    if not hasattr(model, "config") or not hasattr(model, "state_dict"):
        expected = "an alias, hub id, folder, GGUF file or a transformers model"
        raise UserMistake("this cannot be opened as a model", got=type(model).__name__, expected=expected)
    config = json.loads(model.config.to_json_string(use_diff=True))
    tensors = _tensors(model)
    return OpenedFiles(
        settings=settings_of(config),
        source=MemorySource(tensors),
        tokenizer=_fast(tokenizer),
        special=special_ids(config),
        ends=ids_of(config, "bos_token_id", "eos_token_id"),
        fingerprint=_fingerprint(config, tensors),
    )


class MemorySource:
    """Named tensors that are held by somebody else."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def names(self) -> frozenset[str]:
        return frozenset(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(owner_of(self._tensors, name).shape)

    def read(self, name: str) -> Tensor:
        return owner_of(self._tensors, name).detach().cpu()

    def read_rows(self, name: str, rows: Rows) -> Tensor:
        tensor = owner_of(self._tensors, name).detach()
        chosen = tensor[row_indices(rows, len(tensor)).to(tensor.device)] if isinstance(rows, Tensor) else tensor[rows]
        return chosen.cpu()


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = dict(model.state_dict())
    if getattr(model, "hf_quantizer", None) is not None:
        raise UnsupportedModel("the model in memory is quantised", got=type(model).__name__, expected="plain weights")
    offloaded = [name for name, tensor in tensors.items() if tensor.device.type == "meta"]
    if offloaded:
        got = f"{len(offloaded)} tensors elsewhere, {offloaded[0]} among them"
        raise UnsupportedModel("the model is not wholly in memory", got=got, next_step="Give its folder instead.")
    return tensors


def _fast(tokenizer: PreTrainedTokenizerBase | Tokenizer | None) -> Tokenizer:
    found = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if isinstance(found, Tokenizer):
        return found
    raise UserMistake(
        "a model in memory needs its fast tokenizer",
        got=type(tokenizer).__name__,
        expected="tokenizer=AutoTokenizer.from_pretrained(…)",
    )


def _fingerprint(config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> str:
    """32 hex digits over config and every byte of the weights: about a second for a GB."""
    whole = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()[:32]
