"""Tokens that training hardly ever saw, told from the weights alone.

A token that never comes next is pushed down by every text alike, so the rows of U of all such tokens end up as one
direction. Markers that are reserved for later, padding rows and the like are of them for sure: where most of a model's
special and unused tokens lie in one direction, tokens that lie there too are undertrained (docs/method.md, "Head to
operation: salient operations"). The idea is that of Land and Bartolo ("Fishing for Magikarp", 2024); that the reserved
tokens lie together is asked for here, since a model may have trained all of them.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from maps_engine.model import Checkpoint

MOST: Final = 0.1  # of the ordinary tokens: where more lie together, all rows of U do
CHUNK: Final = 8192  # rows of U at a time
ALIKE: Final = 0.95  # cosine
FEWEST: Final = 3  # reserved tokens, for them to be a reference
REFERENCE: Final = 512  # reserved tokens that are looked at: some models have thousands


def undertrained_tokens(checkpoint: Checkpoint) -> frozenset[int]:
    """Ids of tokens whose rows of U lie where those of reserved tokens lie, and of rows of zeros; one pass over U.

    Empty where fewer than half of the special and unused tokens lie together, and where more than MOST of the ordinary
    tokens lie there too: nothing is known then.
    """
    weights, kind = checkpoint.weights, checkpoint.vocabulary.kind
    size = weights.shape.vocab_size
    reserved = [i for i in range(size) if kind(i) in ("special", "unused")]
    direction = _common_direction(_rows(checkpoint, reserved[:: max(1, len(reserved) // REFERENCE)]))
    found: list[Tensor] = []
    for start in range(0, size, CHUNK):
        u = weights.unembedding(slice(start, min(start + CHUNK, size))).float()
        norms = u.norm(dim=-1)
        dead = norms == 0
        alike = dead if direction is None else dead | (u @ direction >= ALIKE * norms)
        found.append(alike.nonzero().squeeze(-1).cpu() + start)
    ids = frozenset(torch.cat(found).tolist())
    ordinary = [i for i in range(size) if kind(i) == "normal"]
    return ids if sum(i in ids for i in ordinary) <= MOST * len(ordinary) else frozenset()


def _rows(checkpoint: Checkpoint, ids: list[int]) -> Tensor:
    wanted = torch.tensor(ids, dtype=torch.long, device=checkpoint.weights.device)
    return checkpoint.weights.unembedding(wanted).float()


def _common_direction(rows: Tensor) -> Tensor | None:
    """(d,), a unit vector: where at least half of `rows` (n, d) lie; None where they do not lie together."""
    rows = rows[rows.norm(dim=-1) > 0]
    if len(rows) < FEWEST:
        return None
    units = rows / rows.norm(dim=-1, keepdim=True)
    median = units.median(dim=0).values
    if not float(median.norm()):
        return None
    direction = median / median.norm()
    together = units @ direction >= ALIKE
    return direction if int(together.sum()) >= max(FEWEST, len(rows) / 2) else None
