"""Parts of all heads: beside the time of their mappings, and of the plain procedure, in the same run.

    python -m tests.benchmarks.bench_parts [--layers 4]

The plain procedure writes the rows of the centred map out for the words among which seeds are looked for (n x V), and
takes the cosines of these; the engine takes them from d_h numbers a word. It is timed on one head a layer and scaled to
all. Mappings and parts are those of `label-heads`: X under `residual`, read from the disk where it is kept (the first
column says what computing it costs). Machines are noisy: ratios are of one run.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.nn.functional import normalize

from maps_engine.engine import MapsEngine
from maps_engine.parts.grouping import SEEN

MODEL = "smollm2-135m"


def plain_seconds(maps: MapsEngine, layer: int) -> float:
    """One head's cosines between whole rows."""
    at = maps.at(maps.settings.source)
    circuit, words = at.circuit(layer), torch.tensor(maps.part_words)
    start = time.perf_counter()
    written = circuit.written(0, words)
    rows = (written - written.mean(dim=0))[:SEEN] @ at.unembedding.hold().T
    units = normalize(rows - rows.mean(dim=1, keepdim=True), dim=-1)
    torch.mm(units, units.T)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4, help="Spread over the model.")
    wanted = parser.parse_args().layers
    maps = MapsEngine.open(MODEL, device="cpu")
    shape = maps.shape
    layers = [shape.n_layers * (2 * i + 1) // (2 * wanted) for i in range(wanted)]
    start = time.perf_counter()
    for layer in layers:
        maps.at(maps.settings.source).sources.hold(layer)
    sources = time.perf_counter() - start
    maps.with_parts(list(maps.map_heads([layers[0]], heads=[0])))  # tables are held then
    mapped = parts = plain = 0.0
    for layer in layers:
        start = time.perf_counter()
        mappings = list(maps.map_heads([layer]))
        middle = time.perf_counter()
        maps.with_parts(mappings)
        parts += time.perf_counter() - middle
        mapped += middle - start
        plain += plain_seconds(maps, layer) * shape.n_heads
    scale = shape.n_layers / wanted
    print(f"{MODEL}, {torch.get_num_threads()} threads, {wanted} of {shape.n_layers} layers, scaled to all")  # noqa: T201
    told = f"X of these layers {sources:.1f} s; mappings {mapped * scale:.1f} s, parts {parts * scale:.1f} s"
    print(f"{told}: {parts / mapped:.1f} times; plain cosines {plain * scale:.1f} s, {plain / parts:.1f} times")  # noqa: T201


if __name__ == "__main__":
    main()
