"""Measure the background and the thresholds of the lexical describer, and its false-positive rate.

    python -m tests.benchmarks.calibrate_lexical            prints the record and compares it with the shipped file
    python -m tests.benchmarks.calibrate_lexical --write    writes agent/describers/calibration.json

About six minutes on two cores. Three sets of rows, each under the default reading and under `first-mlp`:
real       all heads of the built-in SmolLM2 (background rates are the larger of real and random)
permuted   the same rows with the targets moved on by a random number of rows: nothing links source and target
null       heads of the same spectra whose singular vectors are turned at random (`maps_engine.null_heads`)
Thresholds are the 99.5th percentiles of the strongest claim of each family over the nulls (seed 0), at least a floor;
the false-positive rates are counted with fresh nulls (seed 1).
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import agent.describers
from agent.describers.calibration import calibration_from
from agent.describers.findings import Findings, distinct_words, find, without_copies
from agent.describers.lexical import LexicalDescriber
from agent.results.evidence import Evidence
from agent.words.embedder import load_embedder
from agent.words.fields import SemanticFields
from agent.words.known_pairs import KnownPairs, tables
from agent.words.spelling import core
from agent.words.token_classes import CLASSES
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.folders import cache_folder
from maps_engine.model import Checkpoint
from maps_engine.null_heads import null_checkpoint
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings, HeadMapping

READINGS = {"default": EngineSettings(), "first_mlp": EngineSettings("first-mlp")}
QUANTILE = 0.995
RATE_FLOOR = 0.004
CLASS_RATE_FLOOR = 0.01
FLOORS = {"pairs": 4.0, "form": 6.0, "typed": 5.0, "shared_field": 15.0, "field": 20.0, "class": 20.0,
          "related": 5.0, "input": 12.0}  # fmt: skip
SHARES = {
    "pairs_share": 0.4,
    "pairs_rows": 0.1,
    "form_share": 0.25,
    "shared_field_share": 0.5,
    "constant_share": 0.6,
    "field_share": 0.3,
    "class_share": 0.5,
    "related_share": 0.3,
    "input_share": 0.25,
    "shared_typed": 5.0,  # in nats: it only names what `shared_field` has already found
}
PAIRING = ("pairs", "form", "copying", "related")


def real_heads(checkpoint: Checkpoint) -> list[HeadMapping]:
    """All heads under each reading."""
    return [
        mapping for settings in READINGS.values() for mapping in MapsEngine(checkpoint, settings).map_heads(held_out=0)
    ]


def random_heads(checkpoint: Checkpoint, seed: int) -> list[HeadMapping]:
    """As many heads that do nothing."""
    return real_heads(null_checkpoint(checkpoint, seed=seed))


def permuted(mappings: Iterable[HeadMapping], seed: int) -> list[HeadMapping]:
    """Targets moved on by a random number of rows."""
    chance = random.Random(seed)
    out = []
    for mapping in mappings:
        n = len(mapping.rows)
        step = chance.randrange(1, n)
        rows = tuple(replace(r, targets=mapping.rows[(i + step) % n].targets) for i, r in enumerate(mapping.rows))
        out.append(replace(mapping, rows=rows))
    return out


def rates(sets: Sequence[Sequence[HeadMapping]], fields: SemanticFields, known: Sequence[KnownPairs]) -> dict[str, Any]:
    """Mean background rate of each field, class and type; the largest over the sets, never below a floor."""
    each = [_mean_rates(mappings, fields, known) for mappings in sets]
    largest = {key: np.maximum.reduce([one[key] for one in each]) for key in each[0]}
    names = {
        "input_fields": fields.labels,
        "target_fields": fields.labels,
        "input_classes": [c.label for c in CLASSES],
        "target_classes": [c.label for c in CLASSES],
        "typed": [table.relation.name for table in known],
    }
    return {
        key: {
            label: round(max(float(rate), CLASS_RATE_FLOOR if "classes" in key else RATE_FLOOR), 5)
            for label, rate in zip(labels, largest[key], strict=True)
        }
        for key, labels in names.items()
    }


def _mean_rates(mappings: Sequence[HeadMapping], fields: SemanticFields, known: Sequence[KnownPairs]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {
        k: [] for k in ("input_fields", "target_fields", "input_classes", "target_classes", "typed")
    }
    for mapping in mappings:
        own = without_copies(mapping.rows)
        inputs = distinct_words(row.token for row in mapping.rows)
        targets = distinct_words(t.token for row in own for t in row.targets)
        words = {core(t.token) for row in own for t in row.targets} - {""}
        for side, tokens in (("input", inputs), ("target", targets)):
            found[f"{side}_fields"].append(fields.members(tokens).mean(axis=0))
            found[f"{side}_classes"].append([np.mean([c.holds(t) for t in tokens]) for c in CLASSES])
        found["typed"].append([len(words & table.all_targets) / max(1, len(words)) for table in known])
    return {key: np.mean(values, axis=0) for key, values in found.items()}


def strongest(findings: Findings) -> dict[str, float]:
    """The strongest claim of each family that has a threshold."""
    first = {
        "pairs": findings.pairs,
        "form": findings.forms,
        "typed": findings.typed,
        "field": findings.target_fields,
        "class": findings.target_classes,
        "input": findings.input_fields,
    }
    best = {family: claims[0].strength if claims else 0.0 for family, claims in first.items()}
    few = findings.constant.k >= SHARES["constant_share"] * findings.constant.n
    return best | {"related": findings.related.strength, "shared_field": best["field"] if few else 0.0}


def thresholds(null_pairing: Sequence[Findings], null_random: Sequence[Findings]) -> dict[str, float]:
    """99.5th percentiles over the nulls; claims about one side only over random heads."""
    limits = dict(SHARES)
    for family, floor in FLOORS.items():
        null = [*null_pairing, *null_random] if family in {"pairs", "form", "related"} else null_random
        value = float(np.quantile([strongest(one)[family] for one in null], QUANTILE))
        limits[family] = max(floor, math.ceil(value * 2) / 2)
    return limits


def share_ok(mappings: Sequence[HeadMapping], describer: LexicalDescriber, *, pairing_only: bool) -> float:
    """Share of heads described as ok; of permuted heads only claims that link source and target are false."""
    wrong = 0
    for mapping in mappings:
        description = describer.describe(Evidence.of(mapping))
        lead = description.claims[0].kind if description.status == "ok" else ""
        wrong += bool(lead) and (not pairing_only or lead in PAIRING)
    return wrong / len(mappings)


def measure(out: Console) -> dict[str, Any]:
    """The whole calibration with its record."""
    checkpoint = open_checkpoint("smollm2-135m", device="cpu")
    fields = SemanticFields(load_embedder(), cache_folder=cache_folder())
    relations = load_relations()
    known = tables(relations)
    real = real_heads(checkpoint)
    fit, fresh = random_heads(checkpoint, 0), random_heads(checkpoint, 1)
    out.print(f"{len(real)} real mappings, {len(fit)} + {len(fresh)} random ones")
    half = len(real) // 2
    values = rates([real[:half], real[half:], fit[:half], fit[half:]], fields, known)
    background = calibration_from(values | {"thresholds": {}}, "measuring")

    def found(mappings: Sequence[HeadMapping]) -> list[Findings]:
        return [find(m.rows, fields=fields, known=known, calibration=background) for m in mappings]

    limits = thresholds(found(permuted(real, 0)), found(fit))
    out.print(limits)
    describer = LexicalDescriber(
        fields, relations, calibration=calibration_from(values | {"thresholds": limits}, "new")
    )
    record = {
        "false_positives_random_heads": share_ok(fresh, describer, pairing_only=False),
        "false_positives_permuted_rows": share_ok(permuted(real, 1), describer, pairing_only=True),
        **{
            f"described_{name}": share_ok(part, describer, pairing_only=False)
            for name, part in zip(READINGS, (real[:half], real[half:]), strict=True)
        },
        "heads": len(real),
        "model": "smollm2-135m",
        "fingerprint": checkpoint.fingerprint,
        "relations": len(known),
    }
    return {"record": {k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()},
            "thresholds": limits, **values}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    out = Console()
    values = measure(out)
    out.print(values["record"])
    path = Path(agent.describers.__file__).parent / "calibration.json"
    if arguments.write:
        path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")
    else:
        shipped = json.loads(path.read_text("utf-8"))
        out.print("same as shipped" if shipped == values else {"shipped": shipped.get("record")})


if __name__ == "__main__":
    main()
