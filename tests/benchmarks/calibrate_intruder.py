"""Calibrates the intruder test: accuracy on all heads of a model, on heads with weights of chance, on planted heads.

    python -m tests.benchmarks.calibrate_intruder [--model smollm2-135m] [--source auto] [--limit 270] [--json FILE]

Weights of chance: every W_V and W_O replaced by Gaussian numbers of the same size, so that no head does anything; the
threshold is the 95th percentile there. Planted heads: operations of `tests.support.planting`. Minutes: about 5 on two
cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent.checks.intruder import EmbeddingJudge, intruder_test
from agent.results.evidence import Evidence
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.model import AttentionWeights, Checkpoint, ModelWeights
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings
from tests.support.agent.bulk_runs import lexical_bench
from tests.support.planting import plant

PLANTED = ("country-to-capital", "noun-to-pronoun", "adjective-to-comparative", "verb-to-past-tense",
           "singular-to-plural", "word-to-antonym", "word-to-first-letter", "country-to-language")  # fmt: skip


@dataclass
class ChanceWeights:
    """A model's weights with Gaussian attention of the same size."""

    original: ModelWeights

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def attention(self, layer: int) -> AttentionWeights:
        weights = self.original.attention(layer)
        g = torch.Generator().manual_seed(layer)
        value, output = (torch.randn(w.shape, generator=g) * w.std() for w in (weights.value, weights.output))
        return replace(weights, value=value, output=output)


def measured(
    checkpoint: Checkpoint, source: str, heads: list[tuple[int, int]], judge: Any, describer: Any
) -> list[dict]:
    """One record a head: accuracy, status and operation of the lexical describer."""
    engine = MapsEngine(checkpoint, EngineSettings(source=source))
    found = []
    for layer in sorted({at for at, _ in heads}):
        for mapping in engine.map_heads([layer], heads=[h for at, h in heads if at == layer]):
            test = intruder_test(mapping, engine, judge)
            said = describer.describe(Evidence.of(mapping))
            found.append({"layer": layer, "head": mapping.head, "source": mapping.source, "share": test.share,
                          "status": said.status, "operation": said.operation})  # fmt: skip
            print(json.dumps(found[-1]), file=sys.stderr)  # noqa: T201
    return found


def auc(high: list[float], low: list[float]) -> float:
    """Chance that one of `high` exceeds one of `low`, ties half."""
    a, b = np.array(high)[:, None], np.array(low)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean()) if len(high) and len(low) else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--source", default="auto")
    parser.add_argument("--limit", type=int, default=270)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    checkpoint = open_checkpoint(given.model, device="cpu")
    bench = lexical_bench(MapsEngine(checkpoint))
    judge, describer = EmbeddingJudge(bench.fields), bench.describer
    shape = checkpoint.weights.shape
    heads = [(i, h) for i in range(shape.n_layers) for h in range(shape.n_heads)]
    heads = heads[:: max(1, len(heads) // given.limit)]
    real = measured(checkpoint, given.source, heads, judge, describer)
    by_chance = replace(checkpoint, fingerprint="chance", weights=ChanceWeights(checkpoint.weights))
    null = measured(by_chance, "embedding", heads[:: max(1, len(heads) // 60)], judge, describer)
    places = [(2 + 2 * i, (4 * i) % 9) for i in range(len(PLANTED))]
    relations = load_relations(PLANTED)
    made = plant(checkpoint, [(r, *at) for r, at in zip(relations, places, strict=True)])
    planted = measured(made, "embedding", places, judge, describer)
    shares = {
        name: [r["share"] for r in rows] for name, rows in (("real", real), ("chance", null), ("planted", planted))
    }
    named = [r["share"] for r in real if r["status"] == "ok"]
    unclear = [r["share"] for r in real if r["status"] == "unclear"]
    summary = {
        "mean": {name: float(np.mean(values)) for name, values in shares.items()},
        "chance_95": float(np.quantile(shares["chance"], 0.95)),
        "named": [len(named), float(np.mean(named))],
        "unclear": [len(unclear), float(np.mean(unclear))],
        "auc_named_over_unclear": auc(named, unclear),
        "auc_named_over_chance": auc(named, shares["chance"]),
        "auc_planted_over_chance": auc(shares["planted"], shares["chance"]),
        "below_chance_95": {"named": float(np.mean(np.array(named) <= np.quantile(shares["chance"], 0.95))),
                            "unclear": float(np.mean(np.array(unclear) <= np.quantile(shares["chance"], 0.95)))},
    }  # fmt: skip
    print(json.dumps(summary, indent=1))  # noqa: T201
    if given.json:
        given.json.write_text(json.dumps({"real": real, "chance": null, "planted": planted, "summary": summary}))


if __name__ == "__main__":
    main()
