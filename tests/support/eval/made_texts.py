"""Texts of a made-up model's own words."""

from __future__ import annotations

import random

from eval.faithfulness.attention.texts import Text
from maps_engine.model import Checkpoint
from tests.support.eval.named_runs import word_ids


def words(checkpoint: Checkpoint, n: int, seed: int = 0) -> str:
    """A text of so many tokens."""
    ids = random.Random(seed).choices(word_ids(checkpoint), k=n)
    return "".join(checkpoint.vocabulary.text(i) for i in ids)


def some_texts(checkpoint: Checkpoint) -> tuple[Text, ...]:
    """Two of 300 tokens."""
    return tuple(Text(f"text {i}", "made", words(checkpoint, 300, i)) for i in range(2))
