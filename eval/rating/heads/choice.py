"""Which heads stand in a study."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from eval.errors import BadStudy
from eval.rating.heads.described import Head


def choose_heads(
    heads: Sequence[Head], *, n: int | None, layers: range | None, stratify: bool, rng: random.Random
) -> list[Head]:
    """Up to `n` heads of `layers` (None: all), evenly by layer when `stratify`; the same seed, the same choice."""
    pool = sorted((h for h in heads if layers is None or h.layer in layers), key=lambda h: h.key)
    if not pool:
        raise BadStudy("no described head fits the filter", got=f"{len(heads)} heads before the filter")
    rng.shuffle(pool)
    if n is None or n >= len(pool):
        return pool
    return _stratified(pool, n) if stratify else pool[:n]


def _stratified(pool: Sequence[Head], n: int) -> list[Head]:
    """Round robin over layers until n are taken."""
    by_layer: dict[int, list[Head]] = defaultdict(list)
    for head in pool:
        by_layer[head.layer].append(head)
    chosen: list[Head] = []
    depth = 0
    while len(chosen) < n:
        chosen += [layer[depth] for _, layer in sorted(by_layer.items()) if len(layer) > depth]
        depth += 1
    return chosen[:n]
