"""Readings of attention of all heads, real and null, kept in the folder: they take no running model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from agent.pipeline.attention import attention_rules
from agent.words.word_classes import all_classes
from eval.faithfulness.attention.measured import IN_REPEATS, IN_TEXTS
from eval.faithfulness.bench import Bench
from maps_engine import null_heads
from maps_engine.model import Checkpoint
from maps_engine.qk.class_fits import NamedClass
from maps_engine.qk.kinds import reading as reading_of
from maps_engine.qk.readings import read_attention

KIND: Final = "attention"
READINGS: Final = (*IN_TEXTS, *IN_REPEATS)
Readings = dict[str, list[float]]
"""By name of a reading, of all heads, layer by layer."""


@dataclass(frozen=True)
class Claim:
    """That a head attends from one class of words to another (`maps_engine.results.ClassFit`)."""

    layer: int
    head: int
    reads: str | None
    seeks: str
    nats: float


@dataclass(frozen=True)
class ReadHeads:
    """Readings of the model's own heads, and of as many null heads; from class to class, what the own ones do."""

    real: Readings
    null: Readings
    claims: tuple[Claim, ...]


def read_heads(bench: Bench, null: Checkpoint, *, seed: int) -> ReadHeads:
    """From the folder, or read and stored; `seed` is that of the null heads. Raises as `read_attention`."""
    real = _stored(bench, bench.checkpoint, "real", all_classes())
    turned = _stored(bench, null, "null", (), f"-{seed}")
    claims = tuple(Claim(**one) for one in real["claims"])
    return ReadHeads(real["readings"], turned["readings"], claims)


def _stored(
    bench: Bench, checkpoint: Checkpoint, name: str, classes: Sequence[NamedClass], suffix: str = ""
) -> dict[str, Any]:
    place, identity = (
        f"{KIND}/read-{name}{suffix}",
        bench.identity(KIND, heads=f"{name}{suffix}", rules=attention_rules(), null=null_heads.VERSION),
    )
    stored: dict[str, Any] | None = bench.folder.read(place, identity)
    if stored is None:
        with bench.timed(f"{name} heads read"):
            stored = _read(bench, checkpoint, name, classes)
        bench.folder.write(place, identity, stored)
    return stored


def _read(bench: Bench, checkpoint: Checkpoint, name: str, classes: Sequence[NamedClass]) -> dict[str, Any]:
    readings: Readings = {reading: [] for reading in READINGS}
    claims: list[Claim] = []
    for done, heads in enumerate(read_attention(checkpoint, classes=classes)):
        for reading in READINGS:
            readings[reading] += [round(reading_of(one, reading), 6) for one in heads]
        claims += [
            Claim(one.layer, one.head, fit.reads, fit.seeks, round(fit.logit, 6)) for one in heads for fit in one.fits
        ]
        bench.progress(f"layers of {name} heads read", done + 1, checkpoint.weights.shape.n_layers)
    return {"readings": readings, "claims": [asdict(one) for one in claims]}
