"""Dynamic scores of all heads against one forward pass and one projection per head and prompt.

    python -m tests.benchmarks.bench_dynamic_scores [--model smollm2-135m] [--prompts 120] [--sample 3]

The plain way is measured on a sample of heads and prompts in the same run and scaled to all of them: a full forward
pass with a hook on one head, that head's output times U, the k largest of V entries on both sides. Both ways give
phi* with context; the fast way gives it without context in the same time, which the plain way would pay again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import typer

from eval.faithfulness.bench import Bench
from eval.faithfulness.dynamic_scores import Projector, dynamic_scores, record
from eval.faithfulness.running.pair_choice import SourcePairs, one_token_pairs
from eval.faithfulness.running.templates import TEMPLATES
from maps_engine.relations.catalogue import load_relations


def fast_seconds(bench: Bench, pairs: SourcePairs, projector: Projector) -> tuple[float, float, torch.Tensor]:
    """Seconds by the clock and of the processor for all heads, with and without context; phi* with context."""
    clock, busy = time.perf_counter(), time.process_time()
    states = record(bench.model, bench.maker, pairs.sources, TEMPLATES, batch=bench.batch)
    found = dynamic_scores(states, pairs.sources, [pairs], {"plain": projector})
    took = time.perf_counter() - clock, time.process_time() - busy
    return *took, found[0]["plain"].with_context.score


def plain_seconds(bench: Bench, pairs: SourcePairs, sample: int) -> tuple[float, float, int]:
    """Seconds for `sample` heads and as many prompts, one pass and one projection each; how many of them there were."""
    model: Any = bench.model
    weights, shape = bench.checkpoint.weights, bench.checkpoint.weights.shape
    unembedding = weights.unembedding(slice(None))
    heads = [(i * shape.n_layers // sample, i % shape.n_heads) for i in range(sample)]
    outputs = {layer: weights.attention(layer).output for layer, _ in heads}
    clock, busy, runs = time.perf_counter(), time.process_time(), 0
    for layer, head in heads:
        for source in pairs.sources[:sample]:
            prompt = bench.maker.make(TEMPLATES[runs % len(TEMPLATES)], source)
            z = model.head_states(torch.tensor([prompt.ids]), prompt.source).mixed[layer, 0, head]
            logits = unembedding @ (z @ outputs[layer][head])
            logits.topk(pairs.k)
            (-logits).topk(pairs.k)
            runs += 1
    return time.perf_counter() - clock, time.process_time() - busy, runs


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--sample", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.open(asked.model, Path(folder), device=asked.device)
        (chosen,), _ = one_token_pairs(
            load_relations(["verb-to-past-tense"]), bench.checkpoint.vocabulary, max_pairs=asked.prompts // 4
        )
        projector = Projector(bench.checkpoint, "plain")
        _ = bench.model
        plain_seconds(bench, chosen.pairs, 1)
        slow, slow_busy, runs = plain_seconds(bench, chosen.pairs, asked.sample)
        fast, fast_busy, _ = fast_seconds(bench, chosen.pairs, projector)
    shape = bench.checkpoint.weights.shape
    needed = shape.n_layers * shape.n_heads * len(chosen.pairs.sources) * len(TEMPLATES)
    result = {
        "model": asked.model,
        "heads": shape.n_layers * shape.n_heads,
        "prompts": len(chosen.pairs.sources) * len(TEMPLATES),
        "fast_seconds": round(fast, 2),
        "fast_processor_seconds": round(fast_busy, 2),
        "plain_runs_measured": runs,
        "plain_runs_needed": needed,
        "plain_seconds_scaled": round(slow / runs * needed, 1),
        "plain_processor_seconds_scaled": round(slow_busy / runs * needed, 1),
        "ratio": round(slow / runs * needed / fast, 1),
        "ratio_of_processor_time": round(slow_busy / runs * needed / fast_busy, 1),
    }
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    main()
