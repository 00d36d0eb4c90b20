"""Where heads look in made-up texts, read in several ways, against the running model.

Ways differ in what reaches a layer for each word of the made-up texts (docs/method.md, "What a head attends to"). The
running model's side is a folder of `headscribe check attention --out`.

    headscribe check attention --out checked
    python -m tests.benchmarks.attention_ways checked/attention.json [--model smollm2-135m]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor

from eval.faithfulness.attention.summary import CLEAR, area
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.model import Checkpoint, ModelWeights
from maps_engine.ordinary_words import ordinary_words
from maps_engine.qk.kinds import READINGS, reading
from maps_engine.qk.made_texts import MadeUp, attention, by_place
from maps_engine.qk.readings import WORDS
from maps_engine.results import HeadAttention

Rows = Iterator[Tensor]
"""Of texts (t, n) what reaches each layer (t, n, d)."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checked", type=Path, help="attention.json of a check of the same model")
    parser.add_argument("--model", default="smollm2-135m")
    given = parser.parse_args()
    checkpoint = open_checkpoint(given.model, device="cpu")
    by_head = json.loads(given.checked.read_text("utf-8"))["result"]["by_head"]
    real = {name: np.array([head["real"][name] for head in by_head]) for name in READINGS}
    for way, rows in WAYS.items():
        heads = list(chain.from_iterable(read(checkpoint, rows)))
        found = []
        for name, wanted in real.items():
            own = np.array([reading(one, name) for one in heads])
            found.append(f"{name} {spearmanr(own, wanted).statistic:.2f} ({area(own, wanted > CLEAR).value:.2f})")
        print(f"{way:34}", "  ".join(found), flush=True)  # noqa: T201


def read(checkpoint: Checkpoint, rows: Callable[[ModelWeights, Tensor, int], Rows]) -> Iterator[list[HeadAttention]]:
    """The heads of each layer, plain texts and those that repeat themselves read in one way."""
    weights, start = checkpoint.weights, checkpoint.vocabulary.start
    made = MadeUp.of(ordinary_words(checkpoint.vocabulary, WORDS), start, weights.device)
    plain, repeated = (rows(weights, ids, len(start)) for ids in (made.plain, made.repeated))
    for layer, texts in enumerate(zip(plain, repeated, strict=True)):
        seen = (attention(weights.queries_keys(layer, one)) for one in texts)
        yield list(by_place(layer, *seen, len(start)))


def _seeing(sees: int | None) -> Callable[[ModelWeights, Tensor, int], Rows]:
    def rows(weights: ModelWeights, ids: Tensor, start: int) -> Rows:
        stream = weights.texts(ids, start=start, sees=sees)
        yield stream.rows
        for _ in range(weights.shape.n_layers - 1):
            stream.advance()
            yield stream.rows

    return rows


def _first_mlp(weights: ModelWeights, ids: Tensor, start: int) -> Rows:
    """The paper's reading of a token, the same for every layer."""
    found = weights.first_mlp(weights.embedding(ids.flatten())).view(*ids.shape, -1)
    return (found for _ in range(weights.shape.n_layers))


def _embedding(weights: ModelWeights, ids: Tensor, start: int) -> Rows:
    found = weights.embedding(ids.flatten()).view(*ids.shape, -1)
    return (found for _ in range(weights.shape.n_layers))


WAYS: dict[str, Callable[[ModelWeights, Tensor, int], Rows]] = {
    "words see the one before": _seeing(1),
    "words see the two before": _seeing(2),
    "words see the start alone": _seeing(0),
    "words see all before": _seeing(None),
    "first MLP": _first_mlp,
    "embedding": _embedding,
}


if __name__ == "__main__":
    main()
