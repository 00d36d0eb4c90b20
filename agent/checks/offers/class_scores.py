"""Which classes of words a head maps to which others, and which it writes whatever it reads.

Both are read from the strongest targets of a few thousand words.

The words of the named classes (`agent.words.word_classes`) are dealt in two by their spelling. The K strongest targets
of the first half are found once for every head. For each pair of classes the share of a class's words with a member of
the other among their targets is held against that of all other words; a pair far above it is offered for the head. The
second half is left for the test (`agent.checks.claims.ClaimedFields`), which also looks at all other heads.

Members of a class lie close together in U, and two of them can be what a head writes to everything, or to many words
for no reason that concerns their class. So a claim has to hold without the two members that it owes most to.

Any head, one of random weights too, writes a few tokens to most words. What it says of a head is told by a class: a
head is offered as "words to X" where a good part of the strongest targets of all words are of X, the two that are
written most left out. Of classes that pass, the narrowest that has half the share of the best one is offered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from agent.checks.claims import is_own_word
from agent.checks.offers.strongest import StrongestTargets
from agent.results.evidence import ClassScore, SharedScore
from agent.words.spelling import core
from agent.words.word_classes import shared_classes, word_classes
from maps_engine.fitting import fits
from maps_engine.model import Vocabulary
from maps_engine.ordinary_words import in_finding_half, ordinary_words

MOST_WORDS: Final = 48  # of a class: more would cost time on every head and decide little
FEWEST_WORDS: Final = 10  # of a class, or its share says too little
WIDEST: Final = 1_500  # tokens of a class of targets: nearly every head writes some of a wider one
SHARE: Final = 0.3  # of the words of a class that map to the other
ABOVE: Final = 0.2  # above all other words
WITHOUT_BEST: Final = 0.15  # of the words, when the DROPPED strongest members are left out
DROPPED: Final = 2
STRENGTH: Final = 20.0  # nats: how many null heads pass is told in docs/method.md, "Testing a description"
LOOKED_AT: Final = 200  # pairs of classes of a head, strongest first
OFFERED: Final = 1  # the clearest: each that is tested costs dozens of rows of every head
SHOWN: Final = 4
SHARED: Final = 0.1  # of the strongest targets of all words, for a class of any word
SHARED_WIDE: Final = 0.35  # for a class of WIDE tokens: random heads write more of them
WIDE: Final = 300
NARROWER: Final = 0.5  # of the share of the best class is enough for a narrower one


@dataclass
class ClassScores:
    """Classes of words that heads of a model map to others; read when first asked for.

    Nothing is offered where that many words would take longer to pass the blocks than a head's own reading may
    (`maps_engine.fitting`).
    """

    strongest: StrongestTargets

    def of_head(self, layer: int, head: int) -> tuple[ClassScore, ...]:
        """The pairs of classes that stand out most on this head, the clearest first."""
        if not self._fit:
            return ()
        return tuple(self._standing_out(self._rows(layer, head))[:OFFERED])

    def shared_by(self, layer: int, head: int) -> SharedScore | None:
        """The class of tokens that the head writes whatever it reads, if there is one."""
        if not self._fit:
            return None
        rows, (names, table) = self._rows(layer, head), self.targets
        sizes, needed = self._target_sizes, self._shares_needed
        shares = self._without_best(rows, table, needed)
        passing = (shares >= needed).nonzero().flatten().tolist()
        if not passing:
            return None
        enough = NARROWER * float(shares[passing].max())
        best = min((i for i in passing if shares[i] >= enough), key=lambda i: (int(sizes[i]), i))
        members = table[:, best][rows]
        written = Counter(core(self.strongest.maps.checkpoint.vocabulary.text(i)) for i in rows[members].tolist())
        return SharedScore(
            target=names[best],
            share=float(shares[best]),
            first=float(members[:, 0].double().mean()),
            expected=float(needed[best]),
            n_words=len(rows),
            n_targets=rows.numel(),
            words=tuple(word for word, _ in written.most_common(SHOWN) if word),
        )

    def _rows(self, layer: int, head: int) -> Tensor:
        """(n, K): the strongest targets of the words on one head."""
        return self.strongest.of(layer, self._chosen)[head].long()

    def _without_best(self, rows: Tensor, table: Tensor, needed: Tensor) -> Tensor:
        """(T,): the share of `rows` in each class, the DROPPED members left out that are written most.

        0 for a class that has less than `needed` (T,) even with them.
        """
        ids, times = rows.unique(return_counts=True)
        counts, members = times.double(), table[ids]
        shares = counts @ members.double() / rows.numel()
        near = (shares >= needed).nonzero().flatten()
        spelled, place = self._spelled[ids].unique(return_inverse=True)  # the words that are written at all
        words = counts.new_zeros(len(spelled), len(near))
        words.index_add_(0, place, counts.unsqueeze(1) * members[:, near])
        most = words.topk(min(DROPPED, len(words)), dim=0).values
        found = torch.zeros_like(shares)
        found[near] = (words.sum(dim=0) - most.sum(dim=0)) / rows.numel()
        return found

    def _standing_out(self, rows: Tensor) -> list[ClassScore]:
        """All pairs that pass on a head, the clearest first; rows (n, K) are the strongest targets of the words."""
        share, outside = self._shares(rows)
        clear = (share >= SHARE) & (share - outside >= ABOVE)
        strength = torch.where(clear, _divergence(share, outside) * self._sources.sum(dim=0).unsqueeze(1), 0.0)
        values, places = strength.flatten().topk(min(LOOKED_AT, strength.numel()))
        found = []
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            if value < STRENGTH:
                break
            source, target = divmod(place, strength.shape[1])
            one = self._score(rows, source, target, value, float(outside[source, target]))
            if one is not None and one.strength >= STRENGTH:
                found.append(one)
        return sorted(found, key=lambda one: (-one.strength, one.source, one.target))

    def _shares(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(S, T): the share of the words of each class, and of all other words, that hit each class."""
        hits = self._targets[rows].any(dim=1).double()
        sources = self._sources.double()
        counts, sizes = sources.T @ hits, sources.sum(dim=0).unsqueeze(1)
        return counts / sizes, (hits.sum(dim=0) - counts) / (len(sources) - sizes).clamp_min(1)

    def _score(self, rows: Tensor, source: int, target: int, strength: float, outside: float) -> ClassScore | None:
        """The pair of classes, unless two members carry it; strength is counted without them."""
        own = rows[self._sources[:, source]]
        inside = self._targets[:, target][own]
        text = self.strongest.maps.checkpoint.vocabulary.text
        members = word_classes()[self._all_targets[0][target]]
        hits = [
            {word for i in row[member].tolist() if not is_own_word(self._words[place], word := core(text(i)), members)}
            for row, member, place in zip(own, inside, self._places[source], strict=True)
        ]
        written = Counter(word for words in hits for word in sorted(words))
        best = {word for word, _ in written.most_common(DROPPED)}
        share, left = (sum(bool(words - out) for words in hits) / len(hits) for out in (set(), best))
        if share < SHARE or left < WITHOUT_BEST:
            return None
        return ClassScore(
            source=tuple(self._named)[source],
            target=self._all_targets[0][target],
            score=share,
            outside=outside,
            strength=strength * left / share,
            n_words=len(hits),
            words=tuple(word for word, _ in written.most_common(SHOWN)),
        )

    @cached_property
    def _fit(self) -> bool:
        maps = self.strongest.maps
        return len(self._chosen) >= FEWEST_WORDS and fits(len(self._chosen), maps.settings, maps.checkpoint)

    @cached_property
    def _chosen(self) -> tuple[int, ...]:
        """Of every class the first MOST_WORDS tokens that are words of the choosing half."""
        tokens = [
            (i, word)
            for i, word in words_of(self.strongest.maps.checkpoint.vocabulary).items()
            if in_finding_half(word)
        ]
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

    @cached_property
    def _sources(self) -> Tensor:
        """(n, S) of bool."""
        return torch.tensor([[word in words for words in self._named.values()] for word in self._words])

    @cached_property
    def _places(self) -> list[list[int]]:
        """The words of each class of sources, as places in what was read."""
        return [column.nonzero().flatten().tolist() for column in self._sources.T]

    @cached_property
    def _all_targets(self) -> tuple[tuple[str, ...], Tensor]:
        """Names (T) and members (V, T) of the classes that may be targets."""
        vocabulary = self.strongest.maps.checkpoint.vocabulary
        tokens: dict[str, list[int]] = {}
        for i in range(len(vocabulary)):
            tokens.setdefault(core(vocabulary.text(i)), []).append(i)
        members = {name: [i for word in words for i in tokens.get(word, ())] for name, words in word_classes().items()}
        named = {name: ids for name, ids in members.items() if DROPPED < len(ids) <= WIDEST}
        table = torch.zeros(self.strongest.maps.shape.vocab_size, len(named), dtype=torch.bool)
        for column, ids in enumerate(named.values()):
            table[ids, column] = True
        return tuple(named), table

    @cached_property
    def targets(self) -> tuple[tuple[str, ...], Tensor]:
        """Names and members (V, T) of the classes that a head may write whatever it reads."""
        (named, table), vocabulary = self._all_targets, self.strongest.maps.checkpoint.vocabulary
        classes = shared_classes()
        texts = [vocabulary.text(i) if vocabulary.kind(i) == "normal" else None for i in range(len(vocabulary))]
        joined = torch.zeros(len(table), len(classes), dtype=torch.bool)
        joined[: len(texts)] = torch.tensor([[t is not None and one.holds(t) for one in classes] for t in texts])
        return (*named, *(one.label for one in classes)), torch.cat([table, joined], dim=1)

    @cached_property
    def _target_sizes(self) -> Tensor:
        """(T,): how many tokens each class has that a head may write whatever it reads."""
        return self.targets[1].sum(dim=0)

    @cached_property
    def _shares_needed(self) -> Tensor:
        """(T,): the share of all strongest targets that each of these classes has to have."""
        needed = [SHARED if size < WIDE else SHARED_WIDE for size in self._target_sizes.tolist()]
        return torch.tensor(needed, dtype=torch.float64)

    @cached_property
    def _spelled(self) -> Tensor:
        """(V,): a number for each token, the same for all spellings of a word."""
        vocabulary = self.strongest.maps.checkpoint.vocabulary
        numbers: dict[str, int] = {}
        texts = (vocabulary.text(i) for i in range(len(vocabulary)))
        found = [numbers.setdefault(core(text) or text, len(numbers)) for text in texts]
        found += [len(numbers)] * (self.strongest.maps.shape.vocab_size - len(found))
        return torch.tensor(found)

    @property
    def _targets(self) -> Tensor:
        return self._all_targets[1]


def words_of(vocabulary: Vocabulary) -> dict[int, str]:
    """Whole words and numbers by the id of their token, rising; each word once."""
    return {token: core(vocabulary.text(token)) for token in ordinary_words(vocabulary)}


def _divergence(share: Tensor, null: Tensor) -> Tensor:
    """KL(share || null) of two shares in nats, 0 where share is not above."""
    p, q = share.double().clamp(1e-6, 1 - 1e-6), null.double().clamp(1e-3, 1 - 1e-3)
    return torch.where(p > q, p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log(), 0.0)
