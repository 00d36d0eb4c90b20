"""`label-heads --dry-run`: time and memory before starting, from labelling's own steps timed on one layer or two.

The first layer holds what is computed once (tables, and X where it is the same for all layers), the second is what
every further layer takes. Under `residual` they are the lowest two: the second then holds the pass of the tokens
through one block, which every block below the highest layer takes. Pairs that descriptions predict are scored once on
all heads of the model, about NEW_PAIRS a head labelled and never more than MOST_PAIRS; the rows of one timed layer are
scored on the other, where most of them are no entry of any list, as new pairs are on most heads. A lexical description
takes a known time; what a language model takes is its own and not part of the estimate. What heads attend to is read
once for the model, about as long for every layer as for the second, and not at all where it is kept from before.

All of it costs what two layers cost, and the memory of the run itself: a model that is too large for this machine
already shows it here.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from agent.checks.pair_scorer import PairScorer
from agent.pipeline.request import LabelRequest, devices_of, parse_indices
from agent.pipeline.workbench import open_workbench
from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import HeadMapping

NEW_PAIRS = 8
MOST_PAIRS = 6000
LEXICAL_SECONDS = 0.12  # a head: vectors of its words, retrieval, counting
AGENT_BYTES = 600 * 2**20  # MiniLM, the store of known operations, the database


@dataclass(frozen=True)
class Estimate:
    """Seconds of each part and the peak of memory in bytes; `seconds` leaves a language model's own time out."""

    model: str
    heads: int
    first_layer_seconds: float
    more_layers_seconds: float
    describe_seconds: float
    test_seconds: float
    attention_seconds: float
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """All parts together."""
        layers = self.first_layer_seconds + self.more_layers_seconds
        return layers + self.describe_seconds + self.test_seconds + self.attention_seconds

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values with the sum."""
        return asdict(self) | {"seconds": self.seconds}


def estimate_request(request: LabelRequest) -> Estimate:
    """Map two layers and score a layer's worth of pairs. Raises HeadscribeError."""
    bench = open_workbench(request, device=devices_of(request.device)[0])
    engine = bench.maps
    layers = parse_indices(request.layers, engine.shape.n_layers, "layer")
    heads = parse_indices(request.heads, engine.shape.n_heads, "head")
    streamed = engine.settings.source == "residual"
    chosen = range(min(2, engine.shape.n_layers)) if streamed else layers[(len(layers) - 1) // 2 :][:2]
    timed = [_timed_layer(engine, layer, heads) for layer in chosen]
    n = len(layers) * len(heads)
    return Estimate(
        model=request.model,
        heads=n,
        first_layer_seconds=timed[0][1],
        more_layers_seconds=timed[-1][1] * (layers[-1] if streamed else len(layers) - 1),
        describe_seconds=LEXICAL_SECONDS * n,
        test_seconds=_seconds_a_pair(engine, timed[0][0], layer=chosen[-1]) * min(MOST_PAIRS, NEW_PAIRS * n),
        attention_seconds=bench.attention.seconds() if bench.attention else 0.0,
        peak_bytes=_peak_bytes() + AGENT_BYTES,
    )


def _timed_layer(engine: MapsEngine, layer: int, heads: Sequence[int]) -> tuple[list[HeadMapping], float]:
    """Mappings of a layer, and the seconds that they took."""
    started = time.perf_counter()
    found = list(engine.map_heads([layer], heads=heads))  # Python numbers: an accelerator has finished by then
    return found, time.perf_counter() - started


def _seconds_a_pair(engine: MapsEngine, mappings: Sequence[HeadMapping], *, layer: int) -> float:
    """Scoring one pair on all heads of the model: the rows of `mappings`, timed on `layer`."""
    rows = [(row.token_id, row.targets[0].token_id) for one in mappings for row in one.rows if row.targets]
    pairs = [PairSet((token,), ((target,),), 10) for token, target in rows]
    scoring = engine.at(PairScorer(engine).source)
    scoring.unembedding.hold()  # once, and not for every layer
    started = time.perf_counter()
    scoring.score_pairs(pairs, layers=[layer])
    return (time.perf_counter() - started) * engine.shape.n_layers / max(1, len(pairs))


def _peak_bytes() -> int:
    """What this process has held at most so far, on an accelerator too."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return own + (torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)
