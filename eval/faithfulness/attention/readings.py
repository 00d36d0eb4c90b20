"""Readings of attention of all heads, real and null, kept in the folder: they take no running model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.pipeline.attention import attention_rules
from eval.faithfulness.attention.measured import IN_REPEATS, IN_TEXTS
from eval.faithfulness.bench import Bench
from maps_engine import null_heads
from maps_engine.model import Checkpoint
from maps_engine.qk.kinds import reading as reading_of
from maps_engine.qk.readings import read_attention

KIND: Final = "attention"
READINGS: Final = (*IN_TEXTS, *IN_REPEATS)
Readings = dict[str, list[float]]
"""By name of a reading, of all heads, layer by layer."""


@dataclass(frozen=True)
class ReadHeads:
    """Readings of the model's own heads, and of as many null heads."""

    real: Readings
    null: Readings


def read_heads(bench: Bench, null: Checkpoint, *, seed: int) -> ReadHeads:
    """From the folder, or read and stored; `seed` is that of the null heads. Raises as `read_attention`."""
    return ReadHeads(_stored(bench, bench.checkpoint, "real"), _stored(bench, null, "null", f"-{seed}"))


def _stored(bench: Bench, checkpoint: Checkpoint, name: str, suffix: str = "") -> Readings:
    place, identity = (
        f"{KIND}/{name}-heads{suffix}",
        bench.identity(KIND, heads=f"{name}{suffix}", rules=attention_rules(), null=null_heads.VERSION),
    )
    stored: Readings | None = bench.folder.read(place, identity)
    if stored is None:
        with bench.timed(f"{name} heads read"):
            stored = _read(bench, checkpoint, name)
        bench.folder.write(place, identity, stored)
    return stored


def _read(bench: Bench, checkpoint: Checkpoint, name: str) -> Readings:
    found: Readings = {reading: [] for reading in READINGS}
    for done, heads in enumerate(read_attention(checkpoint)):
        for reading in READINGS:
            found[reading] += [round(reading_of(one, reading), 6) for one in heads]
        bench.progress(f"layers of {name} heads read", done + 1, checkpoint.weights.shape.n_layers)
    return found
