"""Tables of relation scores made up for tests: any size, a few strong heads, nothing computed from a model."""

from __future__ import annotations

import torch

from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.significance import significance
from maps_engine.scores.table import ModelScores, RelationScores


def made_up_scores(
    *,
    layers: int = 30,
    heads: int = 9,
    value_heads: int = 3,
    n: int = 20,
    source: str = "embedding",
    seed: int = 0,
) -> ModelScores:
    """`n` catalogue operations; most heads near 0, some strong in the upper layers, the last one too few pairs."""
    g = torch.Generator().manual_seed(seed)
    rows = []
    for i, one in enumerate(load_relations()[:n]):
        pairs = (100, 80)
        if i == n - 1:
            rows.append(RelationScores(one.name, one.category, one.description, one.k, 100, 7, "single"))
            continue
        tables = []
        for _ in range(2):
            table = torch.rand(layers, heads, generator=g) ** 12 * 0.3
            layer = int(layers * 0.7 + torch.randint(max(1, layers // 4), (), generator=g))
            table[min(layer, layers - 1), int(torch.randint(heads, (), generator=g))] = 0.4 + 0.6 * float(
                torch.rand((), generator=g)
            )
            tables.append((table * 80).round() / 80)
        chance = torch.full((layers, heads), 0.01)
        sides = [significance(table, chance, n=80, n_null=400) for table in tables]
        rows.append(
            RelationScores(one.name, one.category, one.description, one.k, *pairs, "single", (), *tables, *sides)
        )
    return ModelScores("made-up", "0" * 64, source, layers, heads, value_heads, tuple(rows))
