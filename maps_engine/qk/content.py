"""How well queries and keys fit, wherever in a text the words stand (docs/method.md, "What a head attends to").

A logit depends on the places of query and key. Queries are taken at one place and keys as the mean over places before
it, which gives the mean of the logits over these offsets, since a logit is linear in the key: what is left is what the
words say. Soft caps are left out, and so is what is added for an offset alone (ALiBi). Where a model learns a vector
for each place, it stands in the rows themselves, and what is read is of the one place where the words were read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from maps_engine.model import ModelWeights

OFFSETS: Final = frozenset({1, 2, 4, 8, 16, 32})
PLACE: Final = 40  # of the query
PER_SIZE: Final = 3  # words for each dimension of a key, from which turning is found


@dataclass(frozen=True)
class Content:
    """Queries (H, n, d_h) and keys (H, n, d_h) of n words in one layer; their products are mean logits, in nats."""

    queries: Tensor
    keys: Tensor

    @cached_property
    def centred(self) -> Content:
        """Both less their mean over words: what is left depends on query and key together."""
        return Content(*(one - one.mean(dim=1, keepdim=True) for one in (self.queries, self.keys)))

    @cached_property
    def popularity(self) -> Tensor:
        """(H, n): how far the mean query prefers each key to the mean key."""
        return torch.einsum("hne,he->hn", self.centred.keys, self.queries.mean(dim=1))

    @cached_property
    def spread(self) -> Tensor:
        """(H,): standard deviation of the centred scores over all queries and keys: sqrt(tr(Q'Q K'K)) / n."""
        of_queries, of_keys = (one.transpose(1, 2) @ one for one in (self.centred.queries, self.centred.keys))
        return (of_queries * of_keys).sum(dim=(1, 2)).clamp_min(0).sqrt() / self.queries.shape[1]


def content(weights: ModelWeights, layer: int, rows: Tensor) -> Content:
    """Of words as they reach the block of `layer`; rows (n, d). Raises UnsupportedModel as `queries_keys`."""
    read = weights.queries_keys(layer, rows.unsqueeze(1), behind=PLACE)  # each word a text of its own
    some = slice(PER_SIZE * read.keys.shape[-1])
    moved = [_keys(weights, layer, rows[some], PLACE - offset) for offset in sorted(OFFSETS)]
    keys = read.keys[:, :, 0].transpose(0, 1).float()
    keys = keys @ _linear(keys[:, some], torch.stack(moved).mean(dim=0))
    queries = read.queries[:, :, 0].transpose(0, 1).float() * read.scale
    return Content(queries, keys.repeat_interleave(len(queries) // len(keys), dim=0))


def _keys(weights: ModelWeights, layer: int, rows: Tensor, place: int) -> Tensor:
    """(K, n, d_h) of words at one place."""
    return weights.queries_keys(layer, rows.unsqueeze(1), behind=place).keys[:, :, 0].transpose(0, 1).float()


def _linear(given: Tensor, wanted: Tensor) -> Tensor:
    """(K, d_h, d_h): what maps keys at one place (K, n, d_h) to the mean of those at others.

    Places turn a key and do nothing else, so that few words tell how all are turned.
    """
    few, many = given.cpu().double(), wanted.cpu().double()
    inverse = torch.linalg.pinv(few.transpose(1, 2) @ few, hermitian=True)
    return (inverse @ few.transpose(1, 2) @ many).to(given)
