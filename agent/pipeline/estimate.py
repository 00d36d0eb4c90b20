"""`label-heads --dry-run`: time and memory before starting. The engine's part is `maps_engine.cost`.

The agent's part: the pairs that descriptions predict are scored once on all heads of the model (about NEW_PAIRS rows a
head labelled, never more than MOST_PAIRS), and a lexical description takes a known time a head. What a language model
takes is its own and not part of the estimate.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agent.pipeline.job import LabelRequest, devices_of, open_session, parse_indices
from maps_engine.cost import EFFICIENCY, estimate_mapping, measure_speed, probe_operations

NEW_PAIRS = 8
MOST_PAIRS = 6000
LEXICAL_SECONDS = 0.12  # a head: vectors of its words, retrieval, counting
AGENT_BYTES = 600 * 2**20  # MiniLM, the store of known operations, the database


@dataclass(frozen=True)
class Estimate:
    """Seconds of each part and the peak of memory in bytes; `seconds` leaves a language model's own time out."""

    model: str
    heads: int
    sources_seconds: float
    choice_seconds: float
    scan_seconds: float
    reading_seconds: float
    describe_seconds: float
    test_seconds: float
    peak_bytes: int
    float32_gflops: float
    scan_gflops: float

    @property
    def seconds(self) -> float:
        """All parts together."""
        engine = self.sources_seconds + self.choice_seconds + self.scan_seconds + self.reading_seconds
        return engine + self.describe_seconds + self.test_seconds

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values with the sum."""
        return asdict(self) | {"seconds": self.seconds}


def estimate_request(request: LabelRequest) -> Estimate:
    """Measure this machine for a second or two and count the model's operations. Raises HeadscribeError."""
    session = open_session(request, device=devices_of(request.device)[0])
    _ = session.describer  # refused now, not after the evening
    engine = session.engine
    shape = engine.shape
    layers = parse_indices(request.layers, shape.n_layers, "layer")
    heads = len(layers) * len(parse_indices(request.heads, shape.n_heads, "head"))
    low = engine.at("embedding").low_precision is not None
    speed = measure_speed(shape.d_model, low=low, device=engine.checkpoint.weights.device)
    mapping = estimate_mapping(engine, n_layers=len(layers), speed=speed)
    pairs = min(MOST_PAIRS, NEW_PAIRS * heads)
    tests = shape.n_layers * probe_operations(shape, rows=pairs) / speed.float32 / EFFICIENCY
    held_for_tests = 4 * shape.vocab_size * shape.d_model  # scoring pairs holds U in float32
    return Estimate(
        model=request.model,
        heads=heads,
        sources_seconds=mapping.sources_seconds,
        choice_seconds=mapping.choice_seconds,
        scan_seconds=mapping.scan_seconds,
        reading_seconds=mapping.reading_seconds,
        describe_seconds=LEXICAL_SECONDS * heads,
        test_seconds=tests,
        peak_bytes=mapping.peak_bytes + AGENT_BYTES + held_for_tests,
        float32_gflops=2e-9 * speed.float32,
        scan_gflops=2e-9 * speed.scan,
    )
