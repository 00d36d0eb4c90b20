"""All operations on all heads: the engine against scoring them one by one as the paper writes it, in the same run.

The plain procedure (X of the sources, W_V W_O as a d x d matrix, whole rows of M, their k largest and smallest) is
timed on a sample of operations and heads and scaled by pairs x heads; on the sample both must give equal scores. Peak
memory is the process's largest resident size less what it held after the imports, taken before the plain procedure
runs. Growth with heads and pairs is drawn with --plot. Run by `make bench` on a quiet machine; read the ratios.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import torch

from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairScores, PairSet
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.encoding import encode_relation
from maps_engine.relations.significance import shuffled
from maps_engine.results import EngineSettings

MIB = 2**20


def plain_relation(weights, pairs: PairSet, layer: int, head: int, source: str) -> tuple[float, float]:
    """phi and suppression of one operation on one head, written out."""
    x = weights.embedding(torch.tensor(pairs.sources))
    if source == "first-mlp" and layer > 0:
        x = weights.first_mlp(x)
    attention = weights.attention(layer)
    w_vo = attention.value[weights.shape.value_head_of(head)] @ attention.output[head]
    rows = x @ w_vo @ weights.unembedding(slice(0, weights.shape.vocab_size)).T
    shares = []
    for signed in (rows, -rows):
        best = signed.topk(pairs.k).indices.tolist()
        hits = sum(bool(set(row) & set(accepted)) for row, accepted in zip(best, pairs.targets, strict=True))
        shares.append(hits / len(pairs.targets))
    return shares[0], shares[1]


def timed(engine: MapsEngine, pair_sets: list[PairSet], source: str, layers=None) -> tuple[float, list[PairScores]]:
    """Seconds of the engine, and its scores."""
    start = time.perf_counter()
    found = engine.score_pairs(pair_sets, source=source, layers=layers)
    return time.perf_counter() - start, found


def plain_seconds(weights, pair_sets, scores, source: str, sample: int) -> tuple[float, int]:
    """Seconds of the plain procedure a pair and head, and how many of the sampled scores differ from the engine's."""
    seconds = pairs = different = 0
    shape = weights.shape
    for i in range(sample):
        index = i * len(pair_sets) // sample
        layer, head = 1 + i * (shape.n_layers - 1) // sample, i % shape.n_heads
        start = time.perf_counter()
        plain = plain_relation(weights, pair_sets[index], layer, head, source)
        seconds += time.perf_counter() - start
        pairs += len(pair_sets[index].sources)
        own = (float(scores[index].score[layer, head]), float(scores[index].suppression[layer, head]))
        different += any(abs(a - b) > 1e-6 for a, b in zip(plain, own, strict=True))
    return seconds / pairs, different


def growth(engine: MapsEngine, pair_sets: list[PairSet], source: str) -> dict[str, list[tuple[int, float]]]:
    """Seconds against heads (all pairs) and against pairs (a third of the layers)."""
    shape = engine.shape
    order = [i for start in range(4) for i in range(start, shape.n_layers, 4)]  # early, middle and late layers alike
    found: dict[str, list[tuple[int, float]]] = {"heads": [], "pairs": []}
    for share in (0.25, 0.5, 0.75, 1.0):
        layers = sorted(order[: max(1, round(share * shape.n_layers))])
        seconds, _ = timed(engine, pair_sets, source, layers)
        found["heads"].append((len(layers) * shape.n_heads, seconds))
        some = pair_sets[:: round(1 / share)] if share <= 0.5 else pair_sets[: round(share * len(pair_sets))]
        seconds, _ = timed(engine, some, source, order[: shape.n_layers // 3])
        found["pairs"].append((sum(len(one.sources) for one in some), seconds))
    return found


def draw(found: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Both curves with the straight line from nothing to the largest point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), facecolor="white", layout="constrained")
    for axes, (what, points) in zip(figure.subplots(1, 2), found.items(), strict=True):
        xs, ys = zip(*sorted(points), strict=True)
        axes.plot([0, xs[-1]], [0, ys[-1]], color="#b6bac4", linestyle="--", linewidth=1, label="proportional")
        axes.plot(xs, ys, "o-", color="#0072b2", label="measured")
        axes.set_xlabel(what)
        axes.set_ylabel("seconds")
        axes.set_xlim(0)
        axes.set_ylim(0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


def peak_mib() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--source", default="first-mlp")
    parser.add_argument("--relations", type=int, default=None, help="only the first so many operations")
    parser.add_argument("--sample", type=int, default=40, help="operation and head pairs timed one by one")
    parser.add_argument("--plot", type=Path, default=None, help="draw the growth with heads and pairs here")
    options = parser.parse_args()
    before = peak_mib()
    engine = MapsEngine.open(options.model, settings=EngineSettings(source=options.source), device="cpu")
    encoded = [(r, encode_relation(r, engine.checkpoint.vocabulary)) for r in load_relations()[: options.relations]]
    pair_sets = [PairSet(e.source_ids, e.target_ids, r.k) for r, e in encoded if e.n_used >= 30]
    heads, pairs = engine.shape.n_layers * engine.shape.n_heads, sum(len(one.sources) for one in pair_sets)
    print(  # noqa: T201
        f"{options.model}, {options.source}: {len(pair_sets)} operations, {pairs} pairs, {heads} heads,"
        f" {torch.get_num_threads()} threads"
    )
    seconds, scores = timed(engine, pair_sets, options.source)
    with_null, _ = timed(engine, [*pair_sets, *(shuffled(one) for one in pair_sets)], options.source)
    peak = peak_mib() - before
    each, different = plain_seconds(engine.checkpoint.weights, pair_sets, scores, options.source, options.sample)
    plain = each * pairs * heads
    print(f"one by one (scaled from {options.sample} operation-head pairs)  {plain:9.1f} s")  # noqa: T201
    print(f"engine                                        {seconds:9.1f} s   ratio {plain / seconds:5.1f}")  # noqa: T201
    print(f"engine with the shuffled null                 {with_null:9.1f} s   ratio {plain / with_null:5.1f}")  # noqa: T201
    print(f"scores of the sample that differ: {different}")  # noqa: T201
    print(f"peak memory above the imports: {peak:.0f} MiB")  # noqa: T201
    if options.plot is not None:
        found = growth(engine, pair_sets, options.source)
        for what, points in found.items():
            print(f"{what}: " + ", ".join(f"{n} {s:.1f} s" for n, s in points))  # noqa: T201
        draw(found, options.plot)


if __name__ == "__main__":
    main()
