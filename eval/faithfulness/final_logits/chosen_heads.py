"""Which heads are put into the model: the strongest under either setting, and as many drawn at random."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from torch import Tensor

from eval.faithfulness.ablation import Head, heads_of
from eval.faithfulness.static_scores import PAPER, RESIDUAL
from maps_engine.errors import UserMistake
from maps_engine.model import ModelShape

RANDOM: Final = "random"
CHOICES: Final = (RESIDUAL.name, PAPER.name, RANDOM)
Choices = dict[str, tuple[Head, ...]]  # by setting, and RANDOM


def refuse_too_many(n: int, shape: ModelShape) -> None:
    """Raise UserMistake where `n` heads of each choice are more than the model has."""
    most = shape.n_layers * shape.n_heads // len(CHOICES)
    if n > most:
        raise UserMistake(
            "this model has too few heads for three choices of so many", got=f"--heads {n}", expected=f"at most {most}"
        )


def choices(phi: Mapping[str, Tensor], n: int, name: str) -> Choices:
    """The `n` strongest heads under each setting of `phi` (L, H), and `n` that are among none of them.

    `name`, the operation's, is the seed of the draw: the same at every run, and other heads for every operation.
    """
    found = {setting: heads_of(scores, tau=0.0)[:n] for setting, scores in phi.items()}
    taken = {head for heads in found.values() for head in heads}
    n_layers, n_heads = next(iter(phi.values())).shape
    others = [(i, j) for i in range(n_layers) for j in range(n_heads) if (i, j) not in taken]
    return found | {RANDOM: tuple(sorted(random.Random(name).sample(others, n)))}


def union(chosen: Choices) -> list[Head]:
    """Every head that was chosen, once, by place."""
    return sorted({head for heads in chosen.values() for head in heads})
