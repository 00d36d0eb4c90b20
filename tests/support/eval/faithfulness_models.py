"""A tiny model with operations it can be tested with, and the plain computation to hold fast paths against."""

from __future__ import annotations

from pathlib import Path

import torch

from eval.faithfulness.bench import Bench
from eval.faithfulness.running.pair_choice import SourcePairs
from eval.faithfulness.running.running_model import RunningModel
from eval.faithfulness.running.templates import PromptMaker
from maps_engine.model import Checkpoint
from maps_engine.relations.format import Relation
from tests.support.tiny_models import tiny_model


def tiny_bench(folder: Path, family: str = "llama", **options) -> Bench:
    """A bench over a tiny model; results go below `folder`."""
    place = folder / "model"
    if not place.exists():
        tiny_model(family, place, max_position_embeddings=64)
    return Bench.open(str(place), folder / "results", device="cpu", **options)


def words(checkpoint: Checkpoint) -> list[str]:
    """Words of the tiny vocabulary that are one token behind a space."""
    texts = (checkpoint.vocabulary.text(i) for i in range(len(checkpoint.vocabulary)))
    return [text[1:] for text in texts if text.startswith(" ") and text[1:].isalpha()]


def tiny_relation(checkpoint: Checkpoint, name: str = "neighbour", *, step: int = 1, k: int = 10) -> Relation:
    """Every word maps to the one `step` places on."""
    known = words(checkpoint)
    pairs = tuple((word, (known[(i + step) % len(known)],)) for i, word in enumerate(known))
    return relation_of(name, pairs, k)


def relation_of(name: str, pairs: tuple[tuple[str, tuple[str, ...]], ...], k: int = 10) -> Relation:
    return Relation(name, "algorithmic", f"Test of {name}.", k, pairs, True, "words", "words", "Own", "Apache-2.0")


def plain_scores(
    model: RunningModel,
    checkpoint: Checkpoint,
    maker: PromptMaker,
    relation: SourcePairs,
    templates: tuple[str, ...],
    *,
    with_context: bool,
    fold: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """phi* and suppression as the paper computes them: every head and prompt by itself, all of V sorted."""
    shape, weights = model.shape, checkpoint.weights
    hits = torch.zeros(2, shape.n_layers, shape.n_heads)
    unembedding = weights.unembedding(slice(None))
    norm = weights.final_norm()
    if fold and norm is not None:
        unembedding = unembedding if norm.gain is None else unembedding * norm.gain
        if norm.kind == "layer":
            unembedding = unembedding - unembedding.mean(-1, keepdim=True)
    for template in templates:
        for source, targets in zip(relation.sources, relation.targets, strict=True):
            prompt = maker.make(template, source)
            states = model.head_states(torch.tensor([prompt.ids]), prompt.source)
            for layer in range(shape.n_layers):
                for head in range(shape.n_heads):
                    z = states.mixed[layer, 0, head] if with_context else None
                    z = states.values[layer, 0, shape.value_head_of(head)] if z is None else z
                    logits = (z @ weights.attention(layer).output[head]) @ unembedding.T
                    for side, signed in enumerate((logits, -logits)):
                        top = signed.topk(relation.k).indices.tolist()
                        hits[side, layer, head] += bool(set(top) & set(targets))
    n = len(templates) * len(relation.sources)
    return hits[0] / n, hits[1] / n
