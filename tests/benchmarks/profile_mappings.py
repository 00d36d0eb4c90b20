"""Where the engine's time goes: the share of matrix products, and how fast they run for this machine.

All heads of the built-in model are mapped with every operation of torch timed. A product's rate (2 n m k over its time)
is set against the best that one large product of the same type reaches, in the same run. Shares are of the wall time,
reading and listing included. Run by `make bench` on a quiet machine.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.checkpoints.products import linear
from maps_engine.model import Checkpoint
from maps_engine.ov.source_maps import Precision, SourceEngine
from maps_engine.results import EngineSettings
from tests.benchmarks.bench_mappings import MODEL, TARGETS, TOP

PRODUCTS = ("aten.mm", "aten.bmm", "aten.addmm", "mkldnn._linear_pointwise")
FAST = 0.6  # of the best rate
SIDE = 4096
ROUNDS = 7


@dataclass
class Work:
    """What all calls of one operation in one type took."""

    seconds: float = 0.0
    operations: float = 0.0  # of products: 2 n m k
    calls: int = 0


class Clock(TorchDispatchMode):
    """Times every operation; those of a CPU are over when they return."""

    def __init__(self) -> None:
        super().__init__()
        self.work: dict[tuple[str, str], Work] = defaultdict(Work)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        seconds = time.perf_counter() - start
        name = str(func).rsplit(".", 1)[0]
        dtype = str(getattr(result, "dtype", "")).removeprefix("torch.")
        one = self.work[name, dtype]
        one.seconds += seconds
        one.calls += 1
        if name in PRODUCTS:
            first = args[1] if name == "aten.addmm" else args[0]
            one.operations += 2.0 * prod(result.shape) * first.shape[-1]
        return result


def best_rate(dtype: torch.dtype) -> float:
    """Operations a second of a large product, the best of a few; of float32 by the faster of two libraries."""
    a, b = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    seconds = []
    for product in (linear, lambda x, y: x @ y.T):
        for _ in range(ROUNDS):
            start = time.perf_counter()
            product(a, b)
            seconds.append(time.perf_counter() - start)
    return 2.0 * SIDE**3 / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="first-mlp")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rows", type=int, default=12, help="Operations to list.")
    options = parser.parse_args()
    checkpoint = open_checkpoint(MODEL, device="cpu")
    settings = EngineSettings(source=options.source, top=TOP, targets=TARGETS)
    rates = {name: best_rate(getattr(torch, name)) for name in ("float32", "bfloat16")}
    plain = min(mapped(checkpoint, settings, options.precision) for _ in range(2))
    clock = Clock()
    with torch.no_grad(), clock:
        timed = mapped(checkpoint, settings, options.precision)
    print(f"{MODEL}, {torch.get_num_threads()} threads: {plain:.1f} s, {timed:.1f} s with every operation timed")  # noqa: T201
    show(clock, plain, rates, options.rows)


def mapped(checkpoint: Checkpoint, settings: EngineSettings, precision: Precision) -> float:
    """Seconds of all heads, from weights on disk to lists with their texts."""
    engine = SourceEngine(checkpoint, settings, precision)
    start = time.perf_counter()
    for layer in range(engine.shape.n_layers):
        engine.map_layer(layer, held_out=0)
    return time.perf_counter() - start


def show(clock: Clock, wall: float, rates: dict[str, float], rows: int) -> None:
    """A line an operation, then what the fast products come to; shares are of the wall time without the clock."""
    print("operation                    type         calls      s   of wall   GFLOP/s   of the best")  # noqa: T201
    fast = 0.0
    for at, ((name, dtype), work) in enumerate(sorted(clock.work.items(), key=lambda item: -item[1].seconds)):
        rate, share = "", work.operations / work.seconds / rates.get(dtype, float("inf"))
        if work.operations:
            rate = f"{work.operations / work.seconds / 1e9:9.0f} {share:13.0%}"
        if share >= FAST:
            fast += work.seconds
        if at < rows:
            line = f"{name:28s} {dtype:10s} {work.calls:7d} {work.seconds:6.2f} {work.seconds / wall:9.1%}"
            print(f"{line} {rate}")  # noqa: T201
    best = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
    print(f"{fast / wall:.0%} of the time in products at {FAST:.0%} or more of the best (GFLOP/s: {best})")  # noqa: T201


if __name__ == "__main__":
    main()
