"""What an opened checkpoint consists of before a device and dtype are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer

from maps_engine.checkpoints.families.settings import Settings
from maps_engine.checkpoints.formats.tensor_source import TensorSource


@dataclass(frozen=True)
class OpenedFiles:
    """The parts of a checkpoint.

    `special` are token ids that its metadata calls special, `ends` those that begin or end a sequence, the beginning
    first.
    """

    settings: Settings
    source: TensorSource
    tokenizer: Tokenizer
    special: frozenset[int]
    ends: tuple[int, ...]
    fingerprint: str
