"""The measured background that claims about one side of a mapping are held against, and the thresholds.

`calibration.json` is written by `python -m tests.benchmarks.calibrate_lexical` from all heads of the built-in
SmolLM2 under two readings, the same heads with targets permuted across rows, and null heads. It
holds, besides the numbers used here, the false-positive rates that were measured with them. See docs/method.md,
"Calibration".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

UNKNOWN_RATE = 0.25  # for a relation that was not there when the background was measured


@dataclass(frozen=True, slots=True)
class Calibration:
    """Rates are shares of distinct tokens (fields, classes) or of rows (typed); thresholds are in nats."""

    input_fields: Mapping[str, float]
    target_fields: Mapping[str, float]
    input_classes: Mapping[str, float]
    target_classes: Mapping[str, float]
    typed: Mapping[str, float]
    thresholds: Mapping[str, float]
    version: str

    def typed_rate(self, relation: str) -> float:
        """Rate of rows with a target of this relation's type; cautious where it was never measured."""
        return self.typed.get(relation, UNKNOWN_RATE)


@cache
def load_calibration() -> Calibration:
    """The calibration shipped with the package."""
    text = (files("agent.describers") / "calibration.json").read_text("utf-8")
    return calibration_from(json.loads(text), hashlib.sha256(text.encode()).hexdigest()[:12])


def calibration_from(values: Mapping[str, Any], version: str) -> Calibration:
    """A calibration from its JSON form; other keys (the measurement's record) are not used."""
    return Calibration(
        input_fields=values["input_fields"],
        target_fields=values["target_fields"],
        input_classes=values["input_classes"],
        target_classes=values["target_classes"],
        typed=values["typed"],
        thresholds=values["thresholds"],
        version=version,
    )
