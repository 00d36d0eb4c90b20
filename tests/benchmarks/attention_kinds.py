"""How many heads of a model have each kind of attention, beside its null heads; time and memory of the reading.

    python -m tests.benchmarks.attention_kinds [--model smollm2-135m] [--seeds 2]

Null heads: docs/method.md, "Null heads". A head of several kinds counts for each.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter

import numpy as np

from agent.words.word_classes import all_classes
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.model import Checkpoint
from maps_engine.null_heads import null_checkpoint
from maps_engine.qk.kinds import KINDS, READINGS, kinds, reading
from maps_engine.qk.readings import read_attention
from maps_engine.results import HeadAttention

LEVELS = (0.5, 0.9, 0.97, 0.99)


def read(checkpoint: Checkpoint) -> list[HeadAttention]:
    """All heads of a model."""
    start = time.perf_counter()
    heads = [one for layer in read_attention(checkpoint, classes=all_classes()) for one in layer]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{checkpoint.name}: {len(heads)} heads in {time.perf_counter() - start:.1f} s, peak {peak:.1f} GiB")  # noqa: T201
    return heads


def table(real: list[HeadAttention], null: list[HeadAttention]) -> None:
    """Rates of each kind, then quantiles of each reading."""
    rates = [Counter(kind for head in heads for kind in kinds(head)) for heads in (real, null)]
    for kind in KINDS:
        own, turned = rates[0][kind] / len(real), rates[1][kind] / len(null)
        print(f"{kind:16} {rates[0][kind]:4} heads {own:6.1%}   null heads {turned:6.1%}")  # noqa: T201
    liked = [np.mean([any(fit.reads is None for fit in head.fits) for head in heads]) for heads in (real, null)]
    print(f"{'keys of a class':16} {'':10} {liked[0]:6.1%}   null heads {liked[1]:6.1%}")  # noqa: T201
    for name in READINGS:
        found = (np.quantile([reading(head, name) for head in heads], LEVELS) for heads in (real, null))
        own, turned = (" ".join(f"{value:.3f}" for value in one) for one in found)
        print(f"{name:16} at {LEVELS}: {own}   null heads {turned}")  # noqa: T201


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    checkpoint = open_checkpoint(given.model, device="cpu")
    real = read(checkpoint)
    table(real, [head for seed in range(given.seeds) for head in read(null_checkpoint(checkpoint, seed=seed))])


if __name__ == "__main__":
    main()
