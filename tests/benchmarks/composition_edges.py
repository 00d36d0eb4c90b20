"""Do the edges into keys (docs/method.md, "What feeds a head") find what feeds induction heads?

Ranks: where the best previous-token head stands among all earlier heads of each induction head, both as attention is
read from the weights. Removal: on random words that come twice, how much less each induction head of the running model
attends to what followed the same word, when one earlier head writes its mean instead.

    python -m tests.benchmarks.composition_edges [--model smollm2-135m] [--no-removal]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from maps_engine.engine import MapsEngine
from maps_engine.model import Checkpoint
from maps_engine.null_heads import null_checkpoint
from maps_engine.ordinary_words import ordinary_words
from maps_engine.qk import composition
from maps_engine.qk.composition import KINDS, Composition, Place, read_composition
from maps_engine.results import HeadAttention

INDUCTION, PREVIOUS = 0.1, 0.5  # readings from which a head counts
ONCE, TEXTS = 24, 8  # words of a text before they come again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--no-removal", action="store_true")
    asked = parser.parse_args()
    composition.KEPT = 10**6  # every edge
    engine = MapsEngine.open(asked.model)
    heads = {(one.layer, one.head): one for one in chain.from_iterable(engine.attention())}
    found = read_composition(engine.checkpoint)
    _spread(found, "model")
    _spread(read_composition(null_checkpoint(engine.checkpoint)), "null heads")
    readers = [place for place, one in heads.items() if one.induction > INDUCTION]
    _ranks(found, heads, readers)
    if not asked.no_removal:
        _removal(engine.checkpoint, found, readers)


def key_edges(found: Composition, reader: Place) -> list[tuple[Place, float]]:
    """Every earlier head, strongest first."""
    return [(one.source, one.strength) for one in found.edges[reader] if one.kind == "K"]


def _spread(found: Composition, what: str) -> None:
    for kind in KINDS:
        all_of = torch.tensor([one.strength for own in found.edges.values() for one in own if one.kind == kind])
        high = all_of.quantile(0.99) if len(all_of) < 2**24 else torch.tensor(torch.nan)
        print(f"{what} {kind}: mean {all_of.mean():.2f}, 99 % below {high:.2f}, most {all_of.max():.2f}")  # noqa: T201


def _ranks(found: Composition, heads: dict[Place, HeadAttention], readers: list[Place]) -> None:
    for reader in readers:
        edges = key_edges(found, reader)
        (first, strength), *_ = edges
        rank = next((i for i, (source, _) in enumerate(edges, 1) if heads[source].previous > PREVIOUS), None)
        print(  # noqa: T201
            f"{reader}: rank {rank} of {len(edges)}; first {first} {strength:.2f}, previous {heads[first].previous:.2f}"
        )


def _removal(checkpoint: Checkpoint, found: Composition, readers: list[Place]) -> None:
    model: Any = checkpoint.weights.running(dtype=torch.float32, attention="eager")
    texts, places = _texts(checkpoint)
    whole = _looks(model, texts, places, readers)
    sources = [(layer, head) for layer in range(max(readers)[0]) for head in range(found.n_heads)]
    left: dict[Place, dict[Place, float]] = {}
    for source in sources:
        with _without(model, source, checkpoint.weights.shape.d_head):
            left[source] = _looks(model, texts, places, readers)
    for reader in readers:
        drops = {source: whole[reader] - own[reader] for source, own in left.items() if source[0] < reader[0]}
        order = sorted(drops, key=lambda one: -drops[one])
        first = key_edges(found, reader)[0][0]
        print(  # noqa: T201
            f"{reader}: attends {whole[reader]:.2f}; without {first}, the first of its keys, {drops[first]:.2f} less,"
            f" rank {order.index(first) + 1} of {len(order)}; the most is {drops[order[0]]:.2f} without {order[0]}"
        )


def _texts(checkpoint: Checkpoint) -> tuple[Tensor, Tensor]:
    """(t, n) ids, and the places of the words that were read before, with what followed them."""
    chance = torch.Generator().manual_seed(0)
    words, start = torch.tensor(ordinary_words(checkpoint.vocabulary, 1024)), torch.tensor(checkpoint.vocabulary.start)
    once = words[torch.stack([torch.randperm(len(words), generator=chance)[:ONCE] for _ in range(TEXTS)])]
    return torch.cat([start.expand(TEXTS, -1), once, once], dim=1), torch.arange(1, ONCE) + len(start) + ONCE


def _looks(model: Any, texts: Tensor, places: Tensor, readers: list[Place]) -> dict[Place, float]:
    """Mean attention of each head to what followed the same word."""
    with torch.no_grad():
        seen = model.model(input_ids=texts, output_attentions=True).attentions
    return {(layer, head): float(seen[layer][:, head][:, places, places - ONCE + 1].mean()) for layer, head in readers}


@contextmanager
def _without(model: Any, source: Place, width: int) -> Iterator[None]:
    """One head gives the mean of its values over places and texts."""
    layer, part = source[0], slice(source[1] * width, (source[1] + 1) * width)

    def mean(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        values = given[0].clone()
        values[..., part] = values[..., part].mean(dim=(0, 1), keepdim=True)
        return (values,)

    hook = model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(mean)
    try:
        yield
    finally:
        hook.remove()


if __name__ == "__main__":
    main()
