"""An operation planted in one head of a real checkpoint: W_V and W_O fitted by least squares, nothing else touched.

Up to d_h pairs can be met exactly by a map of rank d_h: B = C^-1 X^T (X C^-1 X^T)^-1 Y sends every source to Y, the
direction that is least squares' best for its targets against all other tokens (u whitened by U's second moment). Among
all such maps it writes least for other tokens, C being the second moment of a few thousand of them. B is split into
W_V and W_O; query heads that share the value head keep their own W_O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from maps_engine.engine import MapsEngine
from maps_engine.model import AttentionWeights, Checkpoint, ModelWeights
from maps_engine.relations.catalogue import Relation
from maps_engine.relations.encoding import encode_relation

BYSTANDERS = 6000


@dataclass
class PlantedWeights:
    """A model's weights with the heads in `planted` replaced; everything else is passed through."""

    original: ModelWeights
    planted: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def attention(self, layer: int) -> AttentionWeights:
        weights = self.original.attention(layer)
        for (at, head), (w_v, w_o) in self.planted.items():
            if at == layer:
                value, output = weights.value.clone(), weights.output.clone()
                value[self.original.shape.value_head_of(head)] = w_v
                output[head] = w_o
                weights = replace(weights, value=value, output=output)
        return weights


def plant(
    checkpoint: Checkpoint,
    operations: Sequence[tuple[Relation, int, int]],
    *,
    source: str = "embedding",
    max_pairs: int = 60,
) -> Checkpoint:
    """`checkpoint` with each (relation, layer, head) planted, read through `source`."""
    engine = MapsEngine(checkpoint).at(source)
    planted = PlantedWeights(checkpoint.weights)
    g = torch.Generator().manual_seed(0)
    bystanders = torch.randperm(checkpoint.weights.shape.vocab_size, generator=g)[:BYSTANDERS]
    whitened = _whitened(engine.unembedding.hold())
    for relation, layer, head in operations:
        encoded = encode_relation(relation, checkpoint.vocabulary)
        sources = torch.tensor(encoded.source_ids[:max_pairs])
        towards = [whitened[torch.tensor(t)].mean(0) for t in encoded.target_ids[:max_pairs]]
        x = engine.sources.rows(layer, sources)
        w_v, w_o = _fit(x, torch.stack(towards), engine.sources.rows(layer, bystanders))
        missing = checkpoint.weights.shape.d_head - len(x)
        w_v, w_o = (torch.nn.functional.pad(w_v, (0, missing)), torch.nn.functional.pad(w_o, (0, 0, 0, missing)))
        planted.planted[layer, head] = (w_v, w_o)
    name = f"{checkpoint.name} with {len(operations)} planted operations"
    return replace(checkpoint, name=name, fingerprint=f"planted-{source}", weights=planted)


def _whitened(u: Tensor) -> Tensor:
    """(V, d): unit directions that single out each token's row of U among all rows."""
    centred = (u - u.mean(0)).double()
    moment = centred.T @ centred / len(u)
    moment += 1e-2 * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)
    return torch.nn.functional.normalize(torch.linalg.solve(moment, centred.T).T, dim=-1).float()


def _fit(x: Tensor, y: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """W_V (d, n) and W_O (n, d) that meet the n pairs of rows of x and y."""
    x, y, others = x.double(), y.double(), others.double()
    c = others.T @ others / len(others)
    c += 1e-3 * c.diagonal().mean() * torch.eye(len(c), dtype=c.dtype)
    read = torch.linalg.solve(c, x.T)  # (d, n)
    w_v = read @ torch.linalg.inv(x @ read + 1e-6 * torch.eye(len(x), dtype=x.dtype))
    return w_v.float(), y.float()
