"""How long mapping all heads will take and how much memory, from METHOD's counts and this machine's measured speed.

Multiply-adds a layer:  V d K d_h + H V d_h^2  for saliences ("What exact arithmetic saves"), and
H (top + held out) d V  for the rows of M of the tokens listed. X: V tokens through what makes it, timed on a few.
`source="auto"` also probes every head under each representation, PROBED of a full pass for its 480 rows.
Speed is measured with products of the model's own width, in the arithmetic the scan uses, and taken at 0.75 of that:
what sorting, norms and copies leave. Reading is timed on one layer's tensors; listing costs LISTED a head and row.
Right within a factor of two on an otherwise idle machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.engine import MapsEngine
from maps_engine.model import ModelShape
from maps_engine.ov.source_maps import HELD_BYTES, HELD_OUT
from maps_engine.source_choice import PAIRS_PER_PROBE, PROBES

PROBED = 0.08  # share of the vocabulary's entries that probing and testing really compute
EFFICIENCY = 0.75
BASE_BYTES = 450 * 2**20  # the interpreter with torch and a tokenizer
SCRATCH_BYTES = 1000 * 2**20  # blocks of M with their sorted parts, pages of files not yet given back
SCRATCH_ROWS = 6 * 8192  # rows of width d in float32 while tables are rounded
LISTED = 3e-5  # seconds to rank one row of a head's two lists and to write it down with its texts
SAMPLE = 512  # rows of X that are timed
_MEASURE_SECONDS = 0.4


@dataclass(frozen=True)
class Speed:
    """Multiply-adds a second of this machine, in float32 and in the arithmetic of the scan."""

    float32: float
    scan: float


@dataclass(frozen=True)
class MappingEstimate:
    """Seconds and bytes of `map_heads` over `n_layers` layers."""

    sources_seconds: float  # computing X
    choice_seconds: float  # choosing each head's representation
    scan_seconds: float  # saliences and targets
    reading_seconds: float  # the layers' tensors, and the lists made of what was found
    peak_bytes: int

    @property
    def seconds(self) -> float:
        return self.sources_seconds + self.choice_seconds + self.scan_seconds + self.reading_seconds


def estimate_mapping(engine: MapsEngine, *, n_layers: int | None = None, speed: Speed | None = None) -> MappingEstimate:
    """Reads the first block and a few rows of E; `n_layers` defaults to the model's."""
    names = engine.chooser.candidates if engine.settings.source == "auto" else (engine.settings.source,)
    low = engine.at(names[0]).low_precision is not None
    rate = speed or measure_speed(engine.shape.d_model, low=low, device=engine.checkpoint.weights.device)
    layers = engine.shape.n_layers if n_layers is None else n_layers
    rows = (engine.settings.top + HELD_OUT) * (1.5 if len(names) > 1 else 1.0)  # heads of a layer split over sources
    scan = layers * scan_operations(engine.shape, rows=round(rows), passes=1 + 0.5 * (len(names) > 1))
    probed = layers * probe_operations(engine.shape) * len(names) if len(names) > 1 else 0.0
    return MappingEstimate(
        sources_seconds=sum(_source_seconds(engine, name) for name in names),
        choice_seconds=probed / rate.float32 / EFFICIENCY,
        scan_seconds=scan / rate.scan / EFFICIENCY,
        reading_seconds=layers * (_reading_seconds(engine) + LISTED * engine.shape.n_heads * rows),
        peak_bytes=peak_bytes(engine.shape, names=names, low=low),
    )


def scan_operations(shape: ModelShape, *, rows: int, passes: float = 1.0) -> float:
    """Multiply-adds of one layer: saliences of every token (`passes` times) and `rows` rows of M a head."""
    V, d, d_h, H, K = shape.vocab_size, shape.d_model, shape.d_head, shape.n_heads, shape.n_value_heads
    return passes * (V * d * K * d_h + H * V * d_h**2) + H * rows * d * V


def probe_operations(shape: ModelShape, *, rows: int = PAIRS_PER_PROBE * len(PROBES)) -> float:
    """Multiply-adds of scoring pairs with `rows` sources on every head of one layer."""
    return PROBED * shape.n_heads * rows * shape.d_model * shape.vocab_size


def peak_bytes(shape: ModelShape, *, names: tuple[str, ...], low: bool) -> int:
    """Tables held (float32, or bfloat16 of large stored ones), one layer's tensors with their factors, scratch."""
    table = 4 * shape.vocab_size * shape.d_model
    layer = 4 * shape.d_model * shape.d_head * (shape.n_value_heads + shape.n_heads)
    reread = low and table > HELD_BYTES
    exact = 0 if reread else 1 + sum(name == "embedding" for name in names)
    exact += sum(name != "embedding" for name in names)
    halves = 1 + len(names) if low else 0  # of the scan: U, and X of each representation
    scratch = SCRATCH_BYTES + 4 * SCRATCH_ROWS * shape.d_model
    return BASE_BYTES + scratch + round(table * (exact + halves / 2)) + 3 * layer


def measure_speed(width: int, *, low: bool, device: torch.device) -> Speed:
    """Products of (1024, width) and (width, 4096), the best of a few tries."""
    full = _rate(width, torch.float32, device)
    return Speed(full, _rate(width, torch.bfloat16, device) if low else full)


def _rate(width: int, dtype: torch.dtype, device: torch.device) -> float:
    a = torch.randn(1024, width, device=device).to(dtype)
    b = torch.randn(4096, width, device=device).to(dtype)
    return 1024 * 4096 * width / _best_seconds(lambda: a @ b.T, device)


def _source_seconds(engine: MapsEngine, name: str) -> float:
    """X of the whole vocabulary, from the time of a few rows."""
    table, size = engine.at(name).sources, engine.shape.vocab_size
    ids = torch.arange(min(SAMPLE, size), device=engine.checkpoint.weights.device)
    return _best_seconds(lambda: table.rows(1, ids), ids.device) * size / len(ids)


def _reading_seconds(engine: MapsEngine) -> float:
    """One layer's W_V and W_O from where they lie to where they are multiplied: the last layer's, read just once."""
    started = time.perf_counter()
    heads = engine.checkpoint.weights.attention(engine.shape.n_layers - 1)
    float(heads.output[-1, -1, -1])  # an accelerator has it then
    return time.perf_counter() - started


def _best_seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    work()  # reads what is read once
    best, until = float("inf"), time.perf_counter() + _MEASURE_SECONDS
    while True:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
        if time.perf_counter() > until:
            return best
