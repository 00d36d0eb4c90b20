"""How far the parts of a head stay the same when its weights change a little; real heads beside null heads.

    python -m tests.benchmarks.stable_parts [--draws 3] [--most 8]

Parts have no seed of their own: nothing is drawn at random when they are looked for, so the same weights give the same
parts. What is changed here: all matrices that the engine multiplies, rounded to bfloat16; W_V and W_O of the head, with
normal noise of a share of each matrix's RMS (`draws` fixed seeds); which half of the words finds parts and which tests
them. Each part of the unchanged head is held against the part of the changed head with the largest overlap (Jaccard) of
words. Overlap: mean over parts, by share. Found again: parts whose overlap is at least SAME. Same targets: of these,
the ones whose 5 common targets agree in at least AGREE. The last row matches parts with those of another head of the
layer, which shares neither W_V nor W_O: words alone may be alike. A part can go missing since it is no more among the
largest that are kept; `most` keeps more of the changed head. Three minutes on one core once X is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.null_heads import null_checkpoint
from maps_engine.ov.circuit import OVCircuit, UnembeddingTable
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.parts import head_parts
from maps_engine.parts.head_parts import COMMON, MOST_PARTS, PartsReader
from maps_engine.results import HeadPart

MODEL = "smollm2-135m"
LAYERS, HEADS = range(1, 30, 4), (0, 4, 7)
NOISE = (0.01, 0.03, 0.10)
SAME = 0.5
AGREE = 3

Parts = list[tuple[HeadPart, ...]]  # of all heads looked at, in one order


@dataclass
class Changed:
    """What a `PartsReader` asks of an engine, with circuits changed; all else is passed through."""

    at: SourceEngine
    change: Callable[[OVCircuit], OVCircuit]
    unembedding: UnembeddingTable

    def __getattr__(self, name: str) -> Any:
        return getattr(self.at, name)

    def circuit(self, layer: int) -> OVCircuit:
        return self.change(self.at.circuit(layer))


@dataclass
class RoundedSources:
    """Rows of X rounded to bfloat16."""

    table: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.table, name)

    def rows(self, layer: int, ids: Tensor) -> Tensor:
        return rounded(self.table.rows(layer, ids))


def rounded(matrix: Tensor) -> Tensor:
    return matrix.to(torch.bfloat16).to(matrix.dtype)


def in_bfloat16(at: SourceEngine) -> Changed:
    """X, W_V, W_O and U rounded, gains of norms folded in before."""
    unembedding = UnembeddingTable(at.checkpoint.weights, at.folding)
    unembedding._held = rounded(at.unembedding.hold())

    def change(circuit: OVCircuit) -> OVCircuit:
        heads = replace(circuit.heads, value=rounded(circuit.heads.value), output=rounded(circuit.heads.output))
        return replace(circuit, heads=heads, table=RoundedSources(circuit.table), unembedding=unembedding)

    return Changed(at, change, unembedding)


def noisy(at: SourceEngine, size: float, seed: int) -> Changed:
    """Noise of `size` times the RMS of each head's W_V and W_O, other noise in each layer."""

    def change(circuit: OVCircuit) -> OVCircuit:
        chance = torch.Generator().manual_seed(1_000_003 * seed + circuit.layer)

        def with_noise(matrices: Tensor) -> Tensor:
            rms = matrices.square().mean(dim=(1, 2), keepdim=True).sqrt()
            return matrices + size * rms * torch.randn(matrices.shape, generator=chance)

        value, output = with_noise(circuit.heads.value), with_noise(circuit.heads.output)
        return replace(circuit, heads=replace(circuit.heads, value=value, output=output))

    return Changed(at, change, at.unembedding)


def parts(reader: PartsReader) -> Parts:
    return [of_head for layer in LAYERS for of_head in reader.of_layer(layer, HEADS)]


def changed(at: SourceEngine, draws: int) -> Iterator[tuple[str, list[Parts]]]:
    """Each change with the parts that it leaves, once for each draw."""
    yield "all in bfloat16", [parts(PartsReader(in_bfloat16(at)))]
    for size in NOISE:
        yield f"noise of {size:.0%}", [parts(PartsReader(noisy(at, size, seed))) for seed in range(draws)]
    swapped = PartsReader(at)
    swapped.__dict__["_halves"] = PartsReader(at)._halves[::-1]
    yield "halves swapped", [parts(swapped)]


def matched(before: Parts, after: Parts) -> list[tuple[float, float, bool]]:
    """Share of each part, its overlap with the part most like it, and whether their common targets agree."""
    found = []
    for of_one, of_other in zip(before, after, strict=True):
        for part in of_one:
            overlaps = [len(part.members & one.members) / len(part.members | one.members) for one in of_other]
            best = max(range(len(overlaps)), key=overlaps.__getitem__)
            agree = len({*part.common[:COMMON]} & {*of_other[best].common[:COMMON]})
            found.append((part.share, overlaps[best], agree >= AGREE))
    return found


def told(before: Parts, after: list[Parts]) -> tuple[str, str, str]:
    """Mean overlap by share, parts that are found again, and those of them with the same targets."""
    pairs = [pair for one in after for pair in matched(before, one)]
    again = [agree for _, overlap, agree in pairs if overlap >= SAME]
    mean = sum(share * overlap for share, overlap, _ in pairs) / sum(share for share, _, _ in pairs)
    return f"{mean:.2f}", f"{len(again) / len(pairs):.2f}", f"{sum(again) / max(1, len(again)):.2f}"


def of_model(maps: MapsEngine, draws: int, most: int) -> dict[str, tuple[str, str, str]]:
    """The rows of the table for one model."""
    at = maps.at(maps.settings.source)
    before, n = parts(PartsReader(at)), len(HEADS)
    head_parts.MOST_PARTS = most
    try:
        rows = {what: told(before, after) for what, after in changed(at, draws)}
    finally:
        head_parts.MOST_PARTS = MOST_PARTS
    others = [before[i - i % n + (i + 1) % n] for i in range(len(before))]
    return rows | {"another head": told(before, [others])}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=3, help="Of the noise, for each size of it.")
    parser.add_argument("--most", type=int, default=MOST_PARTS, help="Parts kept of a changed head.")
    asked = parser.parse_args()
    checkpoint = open_checkpoint(MODEL, device="cpu")
    table = Table("change", title=f"{len(LAYERS) * len(HEADS)} heads of {MODEL}, and as many null heads")
    for kind in ("", "null: "):
        for column in ("overlap", "found again", "same targets"):
            table.add_column(f"{kind}{column}")
    both = (checkpoint, null_checkpoint(checkpoint))
    real, null = (of_model(MapsEngine(one), asked.draws, asked.most) for one in both)
    for what, numbers in real.items():
        table.add_row(what, *numbers, *null[what])
    Console().print(table)


if __name__ == "__main__":
    main()
