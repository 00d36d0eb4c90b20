"""Which earlier heads feed a head's keys, queries and values, from the weights (docs/method.md, "What feeds a head").

Head 1 writes in the directions of W_OV1 = W_V1 W_O1; head 2 reads its keys in those of W_K2 W_Q2^T, its queries in
those of W_Q2 W_K2^T, its values in those of W_V2 W_O2. Composition (Elhage et al., "A Mathematical Framework for
Transformer Circuits", 2021) is C = ||W_OV1 W_2||_F / (||W_OV1||_F ||W_2||_F). With the QR decompositions W_V1 = Q R and
W_Q2 = Q' R', W_OV1 W_K2 W_Q2^T is as long as (R W_O1 W_K2) R'^T: products are d_h x d_h, and nothing is d x d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import torch
from torch import Tensor

from maps_engine.errors import BrokenCheckpoint, UnsupportedModel
from maps_engine.model import Checkpoint, ModelShape, ModelWeights, Norm

Kind = Literal["K", "Q", "V"]
Place = tuple[int, int]
KINDS: Final[tuple[Kind, ...]] = ("K", "Q", "V")
KEPT = 10  # edges of each kind that are kept of a head
HELD = 2**29  # numbers of what earlier heads write that are held at once: 2 GiB


@dataclass(frozen=True, slots=True)
class Edge:
    """One head that feeds another: `source` of an earlier layer, `reader` of a later one, each (layer, head)."""

    kind: Kind  # what of the reader is fed: its keys, queries or values
    reader: Place
    source: Place
    strength: float  # C by its root mean square over random rotations of what is read: 1 is chance; no unit
    deviations: float  # of C^2 from its mean over these rotations, in standard deviations


@dataclass(frozen=True)
class Composition:
    """The strongest edges into the heads of a model: `KEPT` of each head and kind, strongest first."""

    model: str
    n_layers: int
    n_heads: int
    edges: Mapping[Place, tuple[Edge, ...]]  # by reader: of its keys, its queries, its values

    def of_head(self, layer: int, head: int, n: int = 3) -> tuple[Edge, ...]:
        """The `n` strongest edges of each kind into one head; none into layer 0, or where nothing is read."""
        own = self.edges.get((layer, head), ())
        return tuple(edge for kind in KINDS for edge in [one for one in own if one.kind == kind][:n])

    def strongest(self, n: int | None = None) -> tuple[Edge, ...]:
        """The `n` strongest edges of the model; None: all that are kept."""
        return tuple(sorted((one for own in self.edges.values() for one in own), key=lambda one: -one.strength)[:n])


def read_composition(
    checkpoint: Checkpoint, *, last: int | None = None, progress: Callable[[int], None] | None = None
) -> Composition:
    """The strongest edges into every head of layers up to `last`; `progress` is called with each, `n_steps` times.

    Raises UnsupportedModel where norms stand in the residual stream itself (OPT-350m), and BrokenCheckpoint.
    """
    weights, best = checkpoint.weights, _Strongest(checkpoint.weights.shape)
    dimensions = _dimensions(weights)
    for part in _parts(weights.shape):
        written: list[_Directions] = []
        for layer in _readers(part, weights.shape, last):
            if layer - 1 in part:
                written.append(_written(weights, layer - 1))
            for read in _read(weights, layer):
                compared = [read.compared(one, dimensions) for one in written]
                best.add(layer, part.start, read.kind, torch.cat(compared, dim=1))
            if progress is not None:
                progress(layer)
    return Composition(checkpoint.name, weights.shape.n_layers, weights.shape.n_heads, best.edges())


def n_steps(shape: ModelShape, last: int | None = None) -> int:
    """How many times `read_composition` reports: once a layer, unless a model is so large that layers come again."""
    return sum(len(_readers(part, shape, last)) for part in _parts(shape))


def _readers(part: range, shape: ModelShape, last: int | None) -> range:
    """Layers up to `last` whose heads read what those of a part of the layers write."""
    return range(part.start + 1, shape.n_layers if last is None else last + 1)


def _parts(shape: ModelShape) -> list[range]:
    """All layers but the last in groups of which no more than `HELD` numbers say what their heads write."""
    width = max(1, HELD // (shape.n_heads * shape.d_head * shape.d_model))
    last = shape.n_layers - 1
    return [range(start, min(start + width, last)) for start in range(0, last, width)]


def _dimensions(weights: ModelWeights) -> int:
    """Of what reaches heads: one less than d where a norm takes the mean off."""
    norm = weights.attention_norm(0)
    if norm is None and weights.post_attention_norm(0) is None:
        raise UnsupportedModel(
            "composition is not read where norms stand in the residual stream and change what heads wrote",
            got=weights.family,
            expected="norms before or behind the attention",
        )
    return weights.shape.d_model - _centres(norm)


@dataclass(frozen=True)
class _Directions:
    """Matrices (H, a, d): the rows of each lie where a head writes or reads."""

    rows: Tensor

    @cached_property
    def _gram(self) -> Tensor:
        found = (self.rows @ self.rows.mT).cpu().double()
        if not bool(found.isfinite().all()):
            raise BrokenCheckpoint("weights of attention are not finite")
        return found

    @cached_property
    def size(self) -> Tensor:
        """(H,): squared length."""
        return self._gram.diagonal(dim1=-2, dim2=-1).sum(-1)

    @cached_property
    def _squared(self) -> Tensor:
        return self._gram.pow(2).sum((-2, -1))

    def uneven(self, n: int) -> Tensor:
        """(H,): squared length of the d x d covariance of the rows less its trace, spread over n dimensions."""
        return (self._squared - self.size**2 / n).clamp_min(0)


@dataclass(frozen=True)
class _Reading:
    """What the heads of a layer read: head h in the rows of own[h] @ shared[h // (H/m)]."""

    kind: Kind
    shared: Tensor  # (m, d_h, d): keys and values are shared by query heads
    own: Tensor  # (H, a, d_h)

    @property
    def _group(self) -> int:
        return len(self.own) // len(self.shared)

    @cached_property
    def _directions(self) -> _Directions:
        return _Directions(self.own @ self.shared.repeat_interleave(self._group, dim=0))

    def compared(self, written: _Directions, n: int) -> Tensor:
        """(H, H of `written`, 2): strengths and deviations in n dimensions; 0 where nothing is written or read."""
        both = self._directions.size[:, None] * written.size
        chance, found = both / n, self._passed(written.rows).cpu().double()
        ratio = torch.where(both > 0, found / chance, 0)
        spread = self._directions.uneven(n)[:, None] * written.uneven(n) * 2 / max(1, (n - 1) * (n + 2))
        deviations = torch.where(spread > 0, (found - chance) / spread.sqrt(), 0)
        return torch.stack([ratio.sqrt(), deviations], dim=-1)

    @cached_property
    def _weighed(self) -> Tensor:
        """(m, H/m, d_h d_h): Gram matrices of `own`."""
        return (self.own.mT @ self.own).flatten(1).unflatten(0, (len(self.shared), self._group))

    def _passed(self, rows: Tensor) -> Tensor:
        """(H, H of `rows`): squared length of what is written (H, a, d), as it is read."""
        (m, d_h, _), (s, a, _) = self.shared.shape, rows.shape
        seen = (rows.flatten(0, 1) @ self.shared.flatten(0, 1).T).view(s, a, m, d_h).permute(2, 0, 1, 3).contiguous()
        return (self._weighed @ (seen.mT @ seen).flatten(2).mT).flatten(0, 1).clamp_min(0)


def _written(weights: ModelWeights, layer: int) -> _Directions:
    """R W_O of each head, (H, a, d), in the part of the stream that the norms of later layers let through.

    The gain in front of W_V is not in it: what a head is given behind its gain is nearer to alike in all directions.
    """
    value, output = weights.attention(layer).value, _output(weights, layer)
    triangles = _triangle(value.float()).repeat_interleave(len(output) // len(value), dim=0)
    return _Directions(triangles @ (_mean_free(output) if _centres(weights.attention_norm(layer)) else output))


def _read(weights: ModelWeights, layer: int) -> Iterator[_Reading]:
    """What heads of `layer` read of the stream, by kind."""
    asked, norm = weights.query_key(layer), weights.attention_norm(layer)
    key, query = _before(norm, asked.key), _before(norm, asked.query)
    yield _Reading("K", key, _triangle(query.mT))
    yield _Reading("Q", query, _triangle(key.mT).repeat_interleave(len(query) // len(key), dim=0))
    yield _Reading("V", _before(norm, weights.attention(layer).value), _triangle(_output(weights, layer).mT))


def _before(norm: Norm | None, matrices: Tensor) -> Tensor:
    """(m, d_h, d): matrices (m, d, d_h) with the gain and centring of a norm in front of them, transposed."""
    rows = matrices.float().mT
    rows = rows if norm is None or norm.gain is None else rows * norm.gain.float()
    return _mean_free(rows) if _centres(norm) else rows


def _output(weights: ModelWeights, layer: int) -> Tensor:
    """(H, d_h, d): W_O with the centring and gain of a norm behind it; its division is the same for all heads."""
    rows, norm = weights.attention(layer).output.float(), weights.post_attention_norm(layer)
    rows = _mean_free(rows) if _centres(norm) else rows
    return rows if norm is None or norm.gain is None else rows * norm.gain.float()


def _centres(norm: Norm | None) -> bool:
    return norm is not None and norm.kind == "layer"


def _mean_free(rows: Tensor) -> Tensor:
    return rows - rows.mean(dim=-1, keepdim=True)


def _triangle(matrices: Tensor) -> Tensor:
    """(m, min(d, d_h), d_h): R of the QR decomposition of matrices (m, d, d_h)."""
    return torch.linalg.qr(matrices, mode="r").R


class _Strongest:
    """The strongest edges that were seen so far, by layer and kind: (H, up to `KEPT`, 3)."""

    def __init__(self, shape: ModelShape) -> None:
        self._n_heads = shape.n_heads
        self._seen: dict[tuple[int, Kind], Tensor] = {}

    def add(self, layer: int, first: int, kind: Kind, compared: Tensor) -> None:
        """Strengths and deviations (H, s, 2) of edges into `layer` from heads of layer `first` and those behind it."""
        sources = torch.arange(compared.shape[1], dtype=compared.dtype) + first * self._n_heads
        found = torch.cat([compared, sources.expand(compared.shape[:2]).unsqueeze(-1)], dim=-1)
        before = self._seen.get((layer, kind))
        found = found if before is None else torch.cat([before, found], dim=1)
        order = found[..., 0].argsort(dim=1, descending=True, stable=True)[:, :KEPT]
        self._seen[layer, kind] = found.gather(1, order.unsqueeze(-1).expand(-1, -1, 3))

    def edges(self) -> dict[Place, tuple[Edge, ...]]:
        """All of them by reader, those of strength 0 left out."""
        made: dict[Place, tuple[Edge, ...]] = {}
        for (layer, kind), table in self._seen.items():
            for head, rows in enumerate(table.tolist()):
                own = (
                    Edge(kind, (layer, head), divmod(int(source), self._n_heads), strength, deviations)
                    for strength, deviations, source in rows
                    if strength > 0
                )
                made[layer, head] = (*made.get((layer, head), ()), *own)
        return made
