"""Which classes of words each head maps to which others, by the strongest targets of a few thousand words.

The words of the named classes (`agent.words.word_classes`) are dealt in two by their spelling. The K strongest targets
of the first half are found once for every head of the model. For each pair of classes the share of a class's words with
a member of the other among their targets is held against that of all other words and against the mean over all heads; a
pair far above both is offered for the head. The second half is left for the test (`agent.checks.claims.ClaimedFields`).

Members of a class lie close together in U, and two of them can be what a head writes to everything, or to many words
for no reason that concerns their class. So a claim has to hold without the two members that it owes most to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from agent.checks.claims import chooses
from agent.checks.strongest import StrongestTargets, Told, unseen
from agent.results import ClassScore
from agent.words.spelling import core
from agent.words.word_classes import word_classes
from maps_engine.fitting import fits
from maps_engine.model import Vocabulary
from maps_engine.ordinary_words import ordinary_words

MOST_WORDS: Final = 48  # of a class: more would cost time on every head and decide little
FEWEST_WORDS: Final = 10  # of a class, or its share says too little
WIDEST: Final = 1_500  # tokens of a class of targets: nearly every head writes some of a wider one
SHARE: Final = 0.3  # of the words of a class that map to the other
ABOVE: Final = 0.2  # above all other words, and above the mean over all heads
WITHOUT_BEST: Final = 0.15  # of the words, when the DROPPED strongest members are left out
DROPPED: Final = 2
STRENGTH: Final = 20.0  # nats: what is left of 270 null heads of SmolLM2 is named in docs/method.md
LOOKED_AT: Final = 200  # pairs of classes of a head, strongest first
OFFERED: Final = 2
SHOWN: Final = 4


@dataclass
class ClassScores:
    """Classes of words that heads of a model map to others; read when first asked for.

    Nothing is offered where that many words would take longer to pass the blocks than a head's own reading may
    (`maps_engine.fitting`).
    """

    strongest: StrongestTargets

    def of_head(self, layer: int, head: int) -> tuple[ClassScore, ...]:
        """The pairs of classes that stand out on this head, the clearest first; of equal sources the best target."""
        if not self._fit:
            return ()
        found: list[ClassScore] = []
        for one in self._standing_out(layer, head):
            if all(one.source != other.source and one.target != other.target for other in found):
                found.append(one)
            if len(found) == OFFERED:
                break
        return tuple(found)

    def _standing_out(self, layer: int, head: int) -> list[ClassScore]:
        own, others = self._shares[layer, head], self._outside[layer, head]
        null = torch.maximum(others, self._mean)
        clear = (own >= SHARE) & (own - null >= ABOVE)
        strength = torch.where(clear, _divergence(own, null) * self._sizes.unsqueeze(1), 0.0)
        values, places = strength.flatten().topk(min(LOOKED_AT, strength.numel()))
        found = []
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            if value < STRENGTH:
                break
            source, target = divmod(place, strength.shape[1])
            one = self._score(layer, head, source, target, value)
            if one is not None and one.strength >= STRENGTH:
                found.append(one)
        return sorted(found, key=lambda one: (-one.strength, one.source, one.target))

    def _score(self, layer: int, head: int, source: int, target: int, strength: float) -> ClassScore | None:
        """The pair of classes, unless two members carry it; strength is counted without them."""
        rows = self._table[layer, head][self._sources[:, source]].long()
        inside = self._targets[:, target][rows]
        text = self.strongest.maps.checkpoint.vocabulary.text
        hits = [
            {core(text(i)) for i in row[own].tolist()} - {self._words[place]}
            for row, own, place in zip(rows, inside, self._places[source], strict=True)
        ]
        members = Counter(word for words in hits for word in sorted(words))
        best = {word for word, _ in members.most_common(DROPPED)}
        share, left = (sum(bool(words - out) for words in hits) / len(hits) for out in (set(), best))
        if share < SHARE or left < WITHOUT_BEST:
            return None
        return ClassScore(
            source=self._source_names[source],
            target=self._target_names[target],
            score=share,
            outside=float(torch.maximum(self._outside[layer, head, source, target], self._mean[source, target])),
            strength=strength * left / share,
            n_words=len(hits),
            words=tuple(word for word, _ in members.most_common(SHOWN)),
        )

    @cached_property
    def _fit(self) -> bool:
        maps = self.strongest.maps
        return len(self._chosen) >= FEWEST_WORDS and fits(len(self._chosen), maps.settings, maps.checkpoint)

    @cached_property
    def _chosen(self) -> tuple[int, ...]:
        """Of every class the first MOST_WORDS tokens that are words of the choosing half."""
        tokens = [(i, word) for i, word in words_of(self.strongest.maps.checkpoint.vocabulary).items() if chooses(word)]
        found: set[int] = set()
        for words in word_classes().values():
            own = [i for i, word in tokens if word in words]
            if len(own) >= FEWEST_WORDS:
                found.update(own[:MOST_WORDS])
        return tuple(sorted(found))

    @cached_property
    def _words(self) -> tuple[str, ...]:
        text = self.strongest.maps.checkpoint.vocabulary.text
        return tuple(core(text(i)) for i in self._chosen)

    @cached_property
    def _named(self) -> Mapping[str, frozenset[str]]:
        """Classes with enough of the words that were read."""
        return {
            name: words
            for name, words in word_classes().items()
            if sum(word in words for word in self._words) >= FEWEST_WORDS
        }

    @property
    def _source_names(self) -> tuple[str, ...]:
        return tuple(self._named)

    @cached_property
    def _sources(self) -> Tensor:
        """(n, S) of bool."""
        return torch.tensor([[word in words for words in self._named.values()] for word in self._words])

    @cached_property
    def _places(self) -> list[list[int]]:
        """The words of each class of sources, as places in what was read."""
        return [column.nonzero().flatten().tolist() for column in self._sources.T]

    @cached_property
    def _sizes(self) -> Tensor:
        return self._sources.sum(dim=0).double()

    @cached_property
    def _all_targets(self) -> tuple[tuple[str, ...], Tensor]:
        """Names (T) and members (V, T) of the classes that may be targets."""
        vocabulary, size = self.strongest.maps.checkpoint.vocabulary, self.strongest.maps.shape.vocab_size
        words = [core(vocabulary.text(i)) if i < len(vocabulary) else "" for i in range(size)]  # U may be padded
        names, columns = [], []
        for name, members in word_classes().items():
            column = torch.tensor([word in members for word in words])
            if DROPPED < int(column.sum()) <= WIDEST:
                names.append(name)
                columns.append(column)
        return tuple(names), torch.stack(columns, dim=1)

    @property
    def _target_names(self) -> tuple[str, ...]:
        return self._all_targets[0]

    @property
    def _targets(self) -> Tensor:
        return self._all_targets[1]

    @cached_property
    def _both(self) -> tuple[Tensor, Tensor]:
        """(L, H, S, T): the share of the words of each class, and of all other words, that hit each class."""
        sources = self._sources.float()
        sizes, n = sources.sum(dim=0).unsqueeze(1), len(sources)
        table = self._table
        own = torch.empty(*table.shape[:2], sources.shape[1], self._targets.shape[1])
        outside = torch.empty_like(own)
        for layer in range(table.shape[0]):
            for head in range(table.shape[1]):
                hits = self._targets[table[layer, head].long()].any(dim=1).float()
                counts = sources.T @ hits
                own[layer, head] = counts / sizes
                outside[layer, head] = (hits.sum(dim=0) - counts) / (n - sizes).clamp_min(1)
        return own, outside

    @property
    def _shares(self) -> Tensor:
        return self._both[0]

    @property
    def _outside(self) -> Tensor:
        return self._both[1]

    @cached_property
    def _mean(self) -> Tensor:
        """(S, T): the mean share over all heads."""
        return self._shares.mean(dim=(0, 1))

    def read(self, tell: Told = unseen) -> None:
        """Read what `of_head` needs, unless it is read or kept from before; `tell` is given (layers done, layers)."""
        if self._fit:
            self.strongest.of(self._chosen, tell)

    @property
    def _table(self) -> Tensor:
        """(L, H, n, K): the strongest targets of the chosen words."""
        return self.strongest.of(self._chosen)


def words_of(vocabulary: Vocabulary) -> dict[int, str]:
    """Whole words and numbers by the id of their token, rising; each word once."""
    return {token: core(vocabulary.text(token)) for token in ordinary_words(vocabulary)}


def _divergence(share: Tensor, null: Tensor) -> Tensor:
    """KL(share || null) of two shares in nats, 0 where share is not above."""
    p, q = share.double().clamp(1e-6, 1 - 1e-6), null.double().clamp(1e-3, 1 - 1e-3)
    return torch.where(p > q, p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log(), 0.0)
