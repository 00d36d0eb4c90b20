"""A batch of texts in the running model, against what the weights say of the same texts.

Attention matrices of one batch are held at a time; what is kept of them are means, heads (L, H). The same texts, in
which each word sees the one before it at most, pass the blocks beside it, layer by layer, and their words alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from eval.faithfulness.attention.keys import nearness, rho, unit_ranks
from eval.faithfulness.attention.texts import LENGTH, REPEATED
from eval.faithfulness.running.running_model import RunningModel
from maps_engine.model import ModelWeights
from maps_engine.qk.content import content
from maps_engine.qk.made_texts import SEES

IN_TEXTS: Final = ("previous", "self", "first")  # readings of attention that texts show
IN_REPEATS: Final = ("duplicate", "induction")  # and tokens that repeat
OVER_KEYS: Final = ("placed", "content", "near", "null placed", "null content")
EARLIEST: Final = 32  # place of the first query: earlier ones have few keys to choose from
EVERY: Final = 4  # queries whose keys are ranked are so far apart
Means = dict[str, Tensor]
"""By name of a measure, (L, H): the mean over the texts of a batch."""


@dataclass(frozen=True)
class Predicted:
    """Whose queries and keys say something of texts: the weights', and those of null heads.

    start: of texts; before: ids that each word alone is read behind, which begin with `start`.
    """

    real: ModelWeights
    null: ModelWeights | None  # where null heads are not asked
    start: tuple[int, ...]
    before: tuple[int, ...]


def text_means(model: RunningModel, predicted: Predicted, ids: Tensor) -> Means:
    """Of IN_TEXTS the mean attention, of OVER_KEYS the mean rho; ids (b, LENGTH).

    Raises AttentionOutOfReach, and UnsupportedModel as `ModelWeights.queries_keys`.
    """
    attention = model.attention_weights(ids)
    later = torch.arange(EARLIEST, LENGTH)
    places = {"previous": (later, later - 1), "self": (later, later), "first": (later, torch.zeros_like(later))}
    rows = zip(_at_places(attention, places), _over_keys(attention, predicted, ids), strict=True)
    return _stacked([real | keys for real, keys in rows])


def repeat_means(model: RunningModel, ids: Tensor) -> Means:
    """Of IN_REPEATS the mean attention; ids (b, s + 2 REPEATED), tokens that repeat. Raises AttentionOutOfReach."""
    seconds = torch.arange(ids.shape[1] - REPEATED + 1, ids.shape[1])
    places = {"duplicate": (seconds, seconds - REPEATED), "induction": (seconds, seconds - REPEATED + 1)}
    return _stacked(list(_at_places(model.attention_weights(ids), places)))


def _at_places(attention: Sequence[Tensor], places: dict[str, tuple[Tensor, Tensor]]) -> Iterator[Means]:
    """Layer by layer, (H,) of each reading: mean attention of some places (rows) to others (columns)."""
    for layer in attention:
        yield {name: layer[:, :, rows, columns].float().mean(dim=(0, 2)) for name, (rows, columns) in places.items()}


def _over_keys(attention: Sequence[Tensor], predicted: Predicted, ids: Tensor) -> Iterator[Means]:
    """Layer by layer, (H,) of each prediction: mean rho over queries and texts. The start of texts is no key."""
    weights, s = predicted.real, len(predicted.start)
    ids = ids.to(weights.device)
    words, place = ids[:, s:].unique(return_inverse=True)
    alone, texts = weights.residuals(words, predicted.before), weights.texts(ids, start=s, sees=SEES)
    queries = torch.arange(EARLIEST, LENGTH, EVERY, device=weights.device)
    for layer, own in enumerate(attention):
        if layer:
            alone.advance()
            texts.advance()
        at = _Layer(layer, texts.rows, alone.rows, place, queries, s)
        real = own[:, :, queries, s:].to(weights.device)
        logits = at.placed(predicted.real)
        seen = logits > -torch.inf
        ranks = unit_ranks(real, seen)
        said = {"placed": logits, "content": at.content(predicted.real)}
        if predicted.null is not None:
            said |= {"null placed": at.placed(predicted.null), "null content": at.content(predicted.null)}
        found = {name: rho(unit_ranks(one, seen), ranks) for name, one in said.items()}
        found["near"] = rho(nearness(seen), ranks)
        yield {name: one.mean(dim=(0, 2)) for name, one in found.items()}


@dataclass(frozen=True)
class _Layer:
    """What reaches one layer: texts (b, start + m, d), their words alone (n, d) and which of these stands where (b, m);
    places of queries (q,)."""

    layer: int
    texts: Tensor
    words: Tensor
    place: Tensor
    queries: Tensor
    start: int

    def placed(self, weights: ModelWeights) -> Tensor:
        """(b, H, q, m): logits at the words' own places."""
        return weights.queries_keys(self.layer, self.texts).logits()[:, :, self.queries, self.start :]

    def content(self, weights: ModelWeights) -> Tensor:
        """(b, H, q, m): logits of the same words alone, averaged over places."""
        found = content(weights, self.layer, self.words)
        asking = found.queries[:, self.place[:, self.queries - self.start]]
        return (asking @ found.keys[:, self.place].transpose(-1, -2)).transpose(0, 1)


def _stacked(layers: Sequence[Means]) -> Means:
    return {name: torch.stack([one[name] for one in layers]).cpu() for name in layers[0]}
