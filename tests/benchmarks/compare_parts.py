"""Ways to take a head apart, compared on heads of the built-in model and on null heads.

    python -m tests.benchmarks.compare_parts [--null]

Each way finds parts among one half of the words. A part predicts where at least PREDICTS of the other half's words
that belong to it have one of its 5 targets among their 10 strongest, and ABOVE more than words outside. Share: of the
squared length of all rows, in parts that predict. Alike: mean overlap (Jaccard) of the 30 words that stand most for a
part, when noise of 5 % of the mean length of a row is added and random seeds are others. Some minutes a model on one
core; the table of docs/method.md, "A head in parts", has both.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import FastICA
from torch import Tensor
from torch.nn.functional import normalize

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.null_heads import null_checkpoint
from maps_engine.ordinary_words import in_finding_half
from maps_engine.parts import grouping
from maps_engine.parts.grouping import FEWEST, MEMBER, grouped

MODEL = "smollm2-135m"
HEADS = [(layer, head) for layer in range(14, 30, 2) for head in (0, 4, 7)]
MOST = 12  # parts of a head, the largest
PREDICTS, ABOVE = 0.3, 0.2
INSIDE, OUTSIDE = 40, 150  # words that test a part
NOISE = 0.05


@dataclass(frozen=True)
class Part:
    """Words (n,), how far each goes along the part's direction, and that direction (r,)."""

    words: Tensor
    along: Tensor
    direction: Tensor


Way = Callable[[Tensor, int], list[Part]]


def by_direction(rows: Tensor, directions: Tensor) -> list[Part]:
    """A part for each direction: the words that lie near it, whatever others they lie near."""
    cosines = normalize(rows, dim=-1) @ directions.T
    found = [(cosines[:, i] >= MEMBER).nonzero().flatten() for i in range(len(directions))]
    return [Part(own, rows[own] @ d, d) for own, d in zip(found, directions, strict=True) if len(own) >= FEWEST]


def by_nearest(rows: Tensor, directions: Tensor) -> list[Part]:
    """A part for each direction: the words that lie nearest to it."""
    best, at = (normalize(rows, dim=-1) @ directions.T).max(dim=1)
    found = [((at == i) & (best >= MEMBER)).nonzero().flatten() for i in range(len(directions))]
    return [Part(own, rows[own] @ d, d) for own, d in zip(found, directions, strict=True) if len(own) >= FEWEST]


def singular(rows: Tensor, _: int) -> list[Part]:
    """Both ends of the first eight singular directions of M, those of nearly equal values left out."""
    values, vectors = torch.linalg.eigh((rows.T @ rows).double())
    values, vectors = values.flip(0), vectors.flip(1).T.float()
    apart = [
        i for i in range(8) if all(abs(values[i] - values[j]) >= 0.05 * values[i] for j in (i - 1, i + 1) if j >= 0)
    ]
    chosen = vectors[apart]
    return by_direction(rows, torch.cat([chosen, -chosen]))


def independent(rows: Tensor, seed: int) -> list[Part]:
    """Both ends of sixteen independent components."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = FastICA(16, random_state=seed, max_iter=200, whiten="unit-variance").fit(rows.numpy()).mixing_.T
    directions = normalize(torch.tensor(np.asarray(found)).float(), dim=-1)
    return by_direction(rows, torch.cat([directions, -directions]))


def spherical(k: int, *, joined: float = 2.0) -> Way:
    """Spherical k-means from random seeds; groups are joined from a cosine on."""

    def way(rows: Tensor, seed: int) -> list[Part]:
        directions = _means(rows, k, seed)
        sums = torch.stack([normalize(rows, dim=-1)[own.words].sum(0) for own in by_nearest(rows, directions)])
        before, grouping.JOINED = grouping.JOINED, joined
        try:
            return by_nearest(rows, grouping._joined(sums))
        finally:
            grouping.JOINED = before

    return way


def _means(rows: Tensor, k: int, seed: int, rounds: int = 40) -> Tensor:
    units, g = normalize(rows, dim=-1), torch.Generator().manual_seed(seed)
    found = units[torch.randint(len(units), (1,), generator=g)]
    while len(found) < k:
        away = (1 - (units @ found.T).max(1).values).clamp_min(1e-9)
        found = torch.cat([found, units[torch.multinomial(away, 1, generator=g)]])
    for _ in range(rounds):
        nearest = (units @ found.T).argmax(1)
        found = normalize(torch.zeros_like(found).index_add_(0, nearest, units), dim=-1)
    return found


def sparse(rows: Tensor, seed: int, k: int = 32, codes: int = 2) -> list[Part]:
    """A dictionary of k directions, each row a sum of `codes` of them with weights that are not negative."""
    directions = _means(rows, k, seed, rounds=5)
    for _ in range(15):
        rest, weights = rows.clone(), torch.zeros(len(rows), k)
        for _ in range(codes):
            value, at = (rest @ directions.T).masked_fill(weights > 0, 0).max(1)
            value = value.clamp_min(0)
            weights[torch.arange(len(rows)), at] += value
            rest -= value[:, None] * directions[at]
        gram = weights.T @ weights
        gram += 1e-3 * gram.diagonal().mean() * torch.eye(k)
        directions = normalize(torch.linalg.solve(gram, weights.T @ rows), dim=-1)
    near = normalize(rows, dim=-1) @ directions.T > MEMBER
    found = [((weights[:, i] > 0) & near[:, i]).nonzero().flatten() for i in range(k)]
    return [Part(own, weights[own, i], directions[i]) for i, own in enumerate(found) if len(own) >= FEWEST]


def densest(joined: float) -> Way:
    """What the engine does, with groups joined from a cosine on."""

    def way(rows: Tensor, _: int) -> list[Part]:
        before, grouping.JOINED = grouping.JOINED, joined
        try:
            return by_nearest(rows, grouped(rows).directions)
        finally:
            grouping.JOINED = before

    return way


WAYS: dict[str, Way] = {
    "singular directions": singular,
    "independent components": independent,
    "spherical k-means, 16": spherical(16),
    "spherical k-means, 32, joined from 0.8": spherical(32, joined=0.8),
    "sparse pursuit, 32, two a word": sparse,
    "densest seeds, joined from 0.7": densest(0.7),
    "densest seeds, joined from 0.8 (taken)": densest(0.8),
}


@dataclass(frozen=True)
class Head:
    """Centred values (n, d_h) of the words of one head, its W_O U^T (d_h, V), and its rows (n, d_h)."""

    values: Tensor
    written: Tensor
    rows: Tensor
    finding: Tensor  # (n,) of bool


def opened(maps: MapsEngine) -> list[Head]:
    """All HEADS."""
    reader, text = maps._parts, maps.checkpoint.vocabulary.text
    u = reader.at.unembedding.hold()
    finding = torch.tensor([in_finding_half(text(i)) for i in maps.part_words])
    found = []
    for layer, head in HEADS:
        circuit = reader.at.circuit(layer)
        values = circuit.values(reader.words)[0][:, head // circuit.heads.group]
        values, output = values - values.mean(0), circuit.heads.output[head]
        found.append(Head(values, output @ (u - u.mean(0)).T, values @ reader._factor(output), finding))
    return found


def largest(parts: Sequence[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: -float(part.along.square().sum()))[:MOST]


def measured(way: Way, head: Head) -> tuple[int, int, float, list[float], float, float]:
    """Parts that predict, parts, share of length in them, hits above words outside, likeness, seconds."""
    rows, others = head.rows[head.finding], (~head.finding).nonzero().flatten()
    start = time.perf_counter()
    parts = largest(way(rows, 0))
    seconds = time.perf_counter() - start
    best, at = (normalize(head.rows[others], dim=-1) @ torch.stack([one.direction for one in parts]).T).max(1)
    at = at.masked_fill(best < MEMBER, -1)
    g = torch.Generator().manual_seed(1)
    sample = torch.randperm(len(others), generator=g)[:OUTSIDE]
    strongest = (head.values[others[sample]] @ head.written).topk(10).indices
    predicting, share, above = 0, 0.0, []
    own_values = head.values[head.finding]
    for i, part in enumerate(parts):
        targets = (own_values[part.words].mean(0) @ head.written).topk(5).indices
        inside = others[at == i]
        inside = inside[torch.randperm(len(inside), generator=g)[:INSIDE]]
        if len(inside) < 10:
            continue
        hit = torch.isin((head.values[inside] @ head.written).topk(10).indices, targets).any(1).float().mean()
        outside = torch.isin(strongest[at[sample] != i], targets).any(1).float().mean()
        above.append(float(hit - outside))
        if hit >= PREDICTS and hit - outside >= ABOVE:
            predicting += 1
            share += float(rows[part.words].square().sum() / rows.square().sum())
    noise = NOISE * rows.norm(dim=-1).mean() / rows.shape[1] ** 0.5 * torch.randn(rows.shape, generator=g)
    return predicting, len(parts), share, above, alike(parts, largest(way(rows + noise, 1))), seconds


def alike(parts: Sequence[Part], others: Sequence[Part]) -> float:
    """Mean over `parts` of the largest overlap with one of `others`."""
    one, two = (
        [set(p.words[p.along.topk(min(30, len(p.words))).indices].tolist()) for p in x] for x in (parts, others)
    )
    return sum(max((len(a & b) / len(a | b) for b in two), default=0.0) for a in one) / max(1, len(one))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--null", action="store_true", help="Null heads instead of the model's own.")
    null = parser.parse_args().null
    checkpoint = open_checkpoint(MODEL, device="cpu")
    heads = opened(MapsEngine(null_checkpoint(checkpoint) if null else checkpoint))
    table = Table(
        "parts by", "predict", "share", "above outside", "alike", "s a head", title="null" if null else "real"
    )
    for name, way in WAYS.items():
        found = [measured(way, head) for head in heads]
        n, above = len(found), [one for row in found for one in row[3]]
        means = [sum(row[i] for row in found) / n for i in (0, 1, 2, 4, 5)]
        numbers = f"{means[0]:.1f} of {means[1]:.1f}", *(f"{x:.2f}" for x in (means[2], np.mean(above), *means[3:]))
        table.add_row(name, *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
