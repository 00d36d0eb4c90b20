"""Salient tokens and mappings of all heads: the engine against the plain procedure of METHOD, in the same run.

The plain procedure is timed on a sample of heads and scaled to all of them; the engine runs all heads, X and U
included. Run by `make bench`. Times are wall seconds; read the ratios.
"""

from __future__ import annotations

import argparse
import time

import torch

from maps_engine.checkpoint import open_checkpoint
from maps_engine.model import ModelWeights
from maps_engine.results import EngineSettings
from maps_engine.source_engine import SourceEngine

TOP, TARGETS = 30, 5


def plain_head(weights: ModelWeights, embedding: torch.Tensor, u: torch.Tensor, layer: int, head: int, source: str):
    """One head as METHOD writes it: X for the whole vocabulary, W_V W_O as a d x d matrix, salience, rows, lists."""
    x = weights.first_mlp(embedding) if source == "first-mlp" else embedding
    attention = weights.attention(layer)
    w_vo = attention.value[weights.shape.value_head_of(head)] @ attention.output[head]
    read = x @ w_vo
    sigma = read.norm(dim=-1) / x.norm(dim=-1)
    rows = read[sigma.topk(TOP).indices] @ u.T
    return rows.topk(TARGETS), (-rows).topk(TARGETS)


def engine_seconds(checkpoint, source: str, precision: str) -> float:
    """All heads, from weights on disk to lists with their texts."""
    engine = SourceEngine(checkpoint, EngineSettings(source=source, top=TOP, targets=TARGETS), precision)
    start = time.perf_counter()
    for layer in range(engine.shape.n_layers):
        engine.map_layer(layer, held_out=0)
    return time.perf_counter() - start


def plain_seconds(checkpoint, source: str, sample: int) -> float:
    """Seconds of the plain procedure for one head, mean of `sample` heads of layers >= 1."""
    weights, everything = checkpoint.weights, slice(0, checkpoint.weights.shape.vocab_size)
    embedding, u = weights.embedding(everything), weights.unembedding(everything)
    start = time.perf_counter()
    for i in range(sample):
        layer = 1 + i * (weights.shape.n_layers - 1) // sample
        plain_head(weights, embedding, u, layer, i % weights.shape.n_heads, source)
    return (time.perf_counter() - start) / sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--sample", type=int, default=6, help="heads timed with the plain procedure")
    options = parser.parse_args()
    checkpoint = open_checkpoint(options.model, device="cpu")
    shape = checkpoint.weights.shape
    heads = shape.n_layers * shape.n_heads
    print(f"{options.model}: {heads} heads, {torch.get_num_threads()} threads")  # noqa: T201
    print("source       plain, all heads   float32   ratio   bfloat16+proof   ratio")  # noqa: T201
    for source in ("embedding", "first-mlp"):
        plain = plain_seconds(checkpoint, source, options.sample) * heads
        full, low = (engine_seconds(checkpoint, source, p) for p in ("float32", "bfloat16"))
        row = f"{source:12s} {plain:14.1f} s {full:9.1f} s {plain / full:6.0f} {low:14.1f} s {plain / low:6.0f}"
        print(row)  # noqa: T201


if __name__ == "__main__":
    main()
