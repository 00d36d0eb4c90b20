"""Which classes of words a head lets attend to which others, found on one half of the words and tested on the other.

The mean of a head's centred logits over the words of two classes is the product of the class means of queries and
keys, so that all pairs of classes cost next to nothing. A pair that stands out on the words of one half is told with
what it comes to on the other half, where that is enough: `LOGIT` for it to matter, `STRENGTH` because turned heads
(docs/method.md, "Null heads") have differences between classes too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from maps_engine.ordinary_words import in_finding_half
from maps_engine.qk.content import Content
from maps_engine.results import ClassFit

FEWEST: Final = 5  # words of a class in each half
LOGIT: Final = 1.0  # nats: 2.7 times as much attention as to the mean word
STRENGTH: Final = 10.0
SHOWN: Final = 3


class NamedClass(Protocol):
    """A class of tokens: a plural noun phrase and its test."""

    @property
    def label(self) -> str:
        """Its name."""

    @property
    def holds(self) -> Callable[[str], bool]:
        """Whether a token's text belongs to it."""


@dataclass(frozen=True)
class ClassHalves:
    """Members of C classes among n words, (C, n) of 0 and 1, by half."""

    labels: tuple[str, ...]
    finding: Tensor
    testing: Tensor

    @classmethod
    def of(cls, texts: Sequence[str], classes: Sequence[NamedClass], device: torch.device) -> ClassHalves:
        """Of words by their texts."""
        half = torch.tensor([in_finding_half(text) for text in texts], device=device)
        members = [torch.tensor([one.holds(text) for text in texts], device=device) for one in classes]
        whole = torch.stack(members) if members else torch.zeros(0, len(texts), dtype=torch.bool, device=device)
        return cls(tuple(one.label for one in classes), (whole & half).float(), (whole & ~half).float())

    def among(self, words: Tensor) -> ClassHalves:
        """Of the words of a mask (n,), the classes that have enough in both halves."""
        finding, testing = self.finding[:, words], self.testing[:, words]
        kept = (torch.minimum(finding.sum(dim=1), testing.sum(dim=1)) >= FEWEST).nonzero().flatten().tolist()
        return ClassHalves(tuple(self.labels[i] for i in kept), finding[kept], testing[kept])


def class_fits(read: Content, classes: ClassHalves) -> Iterator[tuple[ClassFit, ...]]:
    """Of each head, the pairs that stood their test and the classes that all queries prefer, strongest first."""
    n_heads = len(read.popularity)
    if not classes.labels:
        yield from [()] * n_heads
        return
    found, tested = (_of_half(read, half) for half in (classes.finding, classes.testing))
    passing = (found.strength >= STRENGTH) & (tested.strength >= STRENGTH) & (tested.logit >= LOGIT)
    pairs = _places(classes.labels)
    for head in range(n_heads):
        fits = [
            ClassFit(*pairs[i], *(float(one[head, i]) for one in (tested.logit, tested.effect, tested.strength)))
            for i in passing[head].nonzero().flatten().tolist()
        ]
        yield _apart(sorted(fits, key=lambda one: -one.strength))


@dataclass(frozen=True)
class _Half:
    """(H, C + C * C): classes of keys for all queries, then pairs of classes row by row."""

    logit: Tensor
    effect: Tensor
    strength: Tensor


def _of_half(read: Content, members: Tensor) -> _Half:
    sizes = members.sum(dim=1)
    share = members / sizes.unsqueeze(1)
    queries, keys = (torch.einsum("cn,hne->hce", share, one) for one in (read.centred.queries, read.centred.keys))
    pairs, alone = queries @ keys.transpose(1, 2), read.popularity @ share.T
    logit = torch.cat([alone, pairs.flatten(1)], dim=1)
    spread = [read.popularity.std(dim=1, keepdim=True).expand_as(alone), read.spread.view(-1, 1, 1).expand_as(pairs)]
    effect = logit / torch.cat([spread[0], spread[1].flatten(1)], dim=1).clamp_min(torch.finfo(logit.dtype).tiny)
    root = sizes.sqrt()
    weight = torch.cat([root, (root.unsqueeze(1) * root).sqrt().flatten()])
    return _Half(logit, effect, effect * weight)


def _places(labels: Sequence[str]) -> list[tuple[str | None, str]]:
    return [(None, label) for label in labels] + [(one, other) for one in labels for other in labels]


def _apart(fits: Sequence[ClassFit]) -> tuple[ClassFit, ...]:
    """The strongest for each class of queries: classes overlap, and one finding would be told many times."""
    kept: dict[str | None, ClassFit] = {}
    for one in fits:
        if one.seeks not in {other.seeks for other in kept.values()}:
            kept.setdefault(one.reads, one)
    return tuple(kept.values())[:SHOWN]
