"""Open a model: find it, recognise its family, and leave reading to when a tensor is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from maps_engine.checkpoints.formats.gguf_file.checkpoint import open_gguf_checkpoint
from maps_engine.checkpoints.formats.opened import OpenedFiles
from maps_engine.checkpoints.locate import Located, locate
from maps_engine.checkpoints.vocabulary import TokenizerVocabulary
from maps_engine.checkpoints.weights import FamilyWeights
from maps_engine.errors import UserMistake
from maps_engine.model import Checkpoint

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_MODEL = "smollm2-135m"


def open_checkpoint(
    model: str = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
) -> Checkpoint:
    """Open a checkpoint given as built-in alias, hub id, local folder or GGUF file.

    `device`: "auto" takes CUDA, then MPS, then the CPU. Tensors are read lazily and come back in `dtype`.
    Raises UnknownModel, UnsupportedModel, BrokenCheckpoint, CacheUnusable, UserMistake (device), Failure (the hub or
    a package cannot be reached).
    """
    where = pick_device(device)
    located = locate(model, revision=revision)
    return _checkpoint(_open(located), name=model, location=located.location, device=where, dtype=dtype)


def open_in_memory(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | Tokenizer | None,
    *,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
) -> Checkpoint:
    """A transformers model that is in memory already, with its tokenizer.

    Raises UserMistake (no model, no fast tokenizer), UnsupportedModel.
    """
    from maps_engine.checkpoints.formats.memory_model import open_memory_model

    where = pick_device(device)
    files = open_memory_model(model, tokenizer)
    name = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
    return _checkpoint(files, name=name, location=f"{type(model).__name__} in memory", device=where, dtype=dtype)


def _checkpoint(
    files: OpenedFiles, *, name: str, location: str, device: torch.device, dtype: torch.dtype
) -> Checkpoint:
    weights = FamilyWeights(files.settings, files.source, device=device, dtype=dtype)
    rows = weights.shape.vocab_size
    return Checkpoint(
        name=name,
        fingerprint=files.fingerprint,
        location=location,
        weights=weights,
        vocabulary=TokenizerVocabulary(files.tokenizer, n_rows=rows, special=files.special, ends=files.ends),
    )


def _open(located: Located) -> OpenedFiles:
    if located.kind == "gguf":
        return open_gguf_checkpoint(located.path)
    from maps_engine.checkpoints.formats.folder_checkpoint import open_folder_checkpoint

    return open_folder_checkpoint(located.path)


def pick_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda", "cuda:1" or "mps". Raises UserMistake when it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserMistake("unknown device", got=name, expected="auto, cpu, cuda or mps") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise UserMistake("this device is not available here", got=name, next_step="Use --device cpu.")
    return device
