"""Operations planted in heads of a real checkpoint: W_V and W_O fitted by least squares, nothing else touched.

What a planted head writes reaches the layers above it, as everything in the running model does.

Up to d_h pairs can be met exactly by a map of rank d_h: B = C^-1 X^T (X C^-1 X^T)^-1 Y sends every source to Y, the
direction that is least squares' best for its targets against all other tokens (u whitened by U's second moment). Among
all such maps it writes least for other tokens, C being the second moment of a few thousand of them. B is split into
W_V and W_O; query heads that share the value head keep their own W_O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from maps_engine.checkpoints.blocks.residual_stream import ResidualStream
from maps_engine.engine import MapsEngine
from maps_engine.model import AttentionWeights, Checkpoint, ModelWeights
from maps_engine.relations.catalogue import Relation
from maps_engine.relations.encoding import encode_relation
from maps_engine.results import EngineSettings

BYSTANDERS = 6000
BYSTANDERS_WEIGHT = 0.05  # of what is written for them, beside all pairs of an operation


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

    def residuals(self, ids: Tensor, lead_in: Sequence[int]) -> ResidualStream:
        """Through blocks with the planted heads; of models whose blocks are those of Llama."""
        return ResidualStream(_PlantedBlocks(self.original._blocks, self), ids, lead_in)

    def put_into(self, block: nn.Module, layer: int) -> None:
        """W_V and W_O of `layer` as transformers' block has them."""
        heads = self.attention(layer)
        value, output = heads.value.transpose(1, 2).flatten(0, 1), heads.output.flatten(0, 1).T
        for module, matrix in ((block.self_attn.v_proj, value), (block.self_attn.o_proj, output)):
            module.weight = nn.Parameter(matrix.contiguous(), requires_grad=False)


class _PlantedBlocks:
    """The blocks of a model, `BlockModel` and `EmptyModel` in one, each with its planted heads once it is filled."""

    def __init__(self, original: Any, weights: PlantedWeights) -> None:
        self.enter, self.run = original.enter, original.run
        self.empty, self._filled, self._weights = self, original.empty.filled, weights

    @contextmanager
    def filled(self, layer: int) -> Iterator[nn.Module]:
        with self._filled(layer) as block:
            if any(at == layer for at, _ in self._weights.planted):
                self._weights.put_into(block, layer)
            yield block


def plant(
    checkpoint: Checkpoint,
    operations: Sequence[tuple[Relation, int, int]],
    *,
    source: str = "embedding",
    max_pairs: int = 60,
) -> Checkpoint:
    """`checkpoint` with each (relation, layer, head) planted, read through `source`."""
    ground = _Ground(checkpoint, source)
    # from below: what is planted changes what heads of later layers read under `residual`
    for relation, layer, head in sorted(operations, key=lambda one: one[1]):
        x, y = ground.pairs(relation, layer, max_pairs)
        w_v, w_o = _fit(x, y, ground.others(layer))
        missing = checkpoint.weights.shape.d_head - len(x)
        w_v, w_o = (torch.nn.functional.pad(w_v, (0, missing)), torch.nn.functional.pad(w_o, (0, 0, 0, missing)))
        ground.put(layer, head, w_v, w_o)
    return ground.planted_checkpoint(f"{len(operations)} planted operations")


def plant_together(
    checkpoint: Checkpoint,
    operations: Mapping[tuple[int, int], Sequence[Relation]],
    *,
    source: str = "residual",
    max_pairs: int = 150,
) -> Checkpoint:
    """`checkpoint` with several relations in each of some heads (layer, head), each with equal weight.

    More pairs than d_h cannot all be met: of the map that fits them all best, and writes little for other tokens, the
    d_h strongest directions are planted, as a head that learned the operations would have them.
    """
    ground = _Ground(checkpoint, source)
    for (layer, head), relations in sorted(operations.items()):
        pairs = [ground.pairs(relation, layer, max_pairs) for relation in relations]
        x, y = (torch.cat([one * len(one) ** -0.5 for one in side]) for side in zip(*pairs, strict=True))
        ground.put(layer, head, *_fit_many(x, y, ground.others(layer), checkpoint.weights.shape.d_head))
    return ground.planted_checkpoint(f"{len(operations)} planted heads")


class _Ground:
    """A checkpoint that heads are planted in, one after the other, from below."""

    def __init__(self, checkpoint: Checkpoint, source: str) -> None:
        self._checkpoint, self._planted = checkpoint, PlantedWeights(checkpoint.weights)
        self._engine = MapsEngine(replace(checkpoint, weights=self._planted), EngineSettings(source)).at(source)
        g = torch.Generator().manual_seed(0)
        self._bystanders = torch.randperm(checkpoint.weights.shape.vocab_size, generator=g)[:BYSTANDERS]
        self._whitened = _whitened(self._engine.unembedding.hold())

    def pairs(self, relation: Relation, layer: int, at_most: int) -> tuple[Tensor, Tensor]:
        """X of the sources (n, d) and the directions (n, d) that single out their targets."""
        encoded = encode_relation(relation, self._checkpoint.vocabulary)
        sources = torch.tensor(encoded.source_ids[:at_most])
        towards = [self._whitened[torch.tensor(t)].mean(0) for t in encoded.target_ids[:at_most]]
        return self._engine.sources.rows(layer, sources), torch.stack(towards)

    def others(self, layer: int) -> Tensor:
        """X (m, d) of tokens for which little is to be written."""
        return self._engine.sources.rows(layer, self._bystanders)

    def put(self, layer: int, head: int, w_v: Tensor, w_o: Tensor) -> None:
        """Plant a head; X is read behind the norm's gain where that is folded in."""
        norm = self._checkpoint.weights.attention_norm(layer)
        if self._engine.folding.norms and norm is not None and norm.gain is not None:
            w_v = w_v / norm.gain[:, None]
        self._planted.planted[layer, head] = (w_v, w_o)

    def planted_checkpoint(self, what: str) -> Checkpoint:
        """The checkpoint with all that was planted."""
        name, fingerprint = f"{self._checkpoint.name} with {what}", _fingerprint(self._checkpoint, self._planted)
        return replace(self._checkpoint, name=name, fingerprint=fingerprint, weights=self._planted)


def _fit_many(x: Tensor, y: Tensor, others: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """W_V (d, rank) and W_O (rank, d) of the strongest directions of the ridge regression of y on x."""
    x, y, others = x.double(), y.double(), others.double()
    c = others.T @ others / len(others)
    c += 1e-3 * c.diagonal().mean() * torch.eye(len(c), dtype=c.dtype)
    both = torch.linalg.solve(x.T @ x + BYSTANDERS_WEIGHT * c, x.T @ y)
    root = torch.linalg.cholesky(c + x.T @ x)
    u, s, v = torch.linalg.svd(root.T @ both, full_matrices=False)
    w_v = torch.linalg.solve_triangular(root.T, u[:, :rank] * s[:rank], upper=True)
    return w_v.float().contiguous(), v[:rank].float().contiguous()


def _fingerprint(checkpoint: Checkpoint, planted: PlantedWeights) -> str:
    """Of all that is planted: rows of X are kept under it."""
    found = hashlib.sha256(checkpoint.fingerprint.encode())
    for place, matrices in planted.planted.items():
        found.update(repr(place).encode())
        for one in matrices:
            found.update(one.contiguous().numpy().tobytes())
    return f"planted-{found.hexdigest()}"


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
