"""What kind of words a part of a head reads, and what kind it writes for them.

A part is a group of words (`maps_engine.parts`). Of the half of its words that found it, the class of words is taken
that stands out most against all words of that half; of the targets that they have in common, the class that stands out
most against the vocabulary. Together they make a claim of classes, such as "names of people to pronouns", which the
other half of the words tests (`agent.checks.claims.ClaimedFields`).

Null heads map groups of words to function words and marks as real heads do, so these have to be nearly all targets, of
another class a few (docs/method.md, "A head in parts").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from agent.checks.offers.class_scores import ClassScores
from agent.describers.statistics import log_likelihood_ratio
from agent.results.evidence import PartClass
from agent.words.spelling import core, is_word
from agent.words.word_classes import word_classes
from maps_engine.engine import MapsEngine
from maps_engine.ordinary_words import in_finding_half
from maps_engine.results import HeadMapping, HeadPart

FEWEST_TARGETS: Final = 3  # of a class among the targets in common
TARGETS_STRENGTH: Final = 15.0  # nats
EVERYDAY: Final = frozenset({"function words", "punctuation marks", "marks and spaces"})  # frequent with null heads
EVERYDAY_SHARE: Final = 0.9  # of the targets in common, for one of these classes
FEWEST_WORDS: Final = 12  # of a class among the words of a part
WORDS_STRENGTH: Final = 40.0  # nats
WORDS_SHARE: Final = 0.1  # of the words of a part that its class has to hold
MOST_WRITTEN: Final = 4  # words that a claim names
RAREST: Final = 1e-4  # smallest rate of a class in the vocabulary: narrower classes would pass by one word


@dataclass
class PartClasses:
    """Claims of classes for parts of heads, by the words that parts are found among."""

    classes: ClassScores

    @property
    def maps(self) -> MapsEngine:
        """The engine that the parts come from."""
        return self.classes.strongest.maps

    def of_head(self, mapping: HeadMapping) -> tuple[PartClass, ...]:
        """One claim at most for each part of the head, in their order."""
        found = (self._of_part(place, part) for place, part in enumerate(mapping.parts))
        return tuple(one for one in found if one is not None)

    def _of_part(self, place: int, part: HeadPart) -> PartClass | None:
        target = self._written(part)
        source = self._read(part) if target else None
        if target is None or source is None:
            return None
        (name, k, expected, strength), (source_name, n_words) = target, source
        n, written = len(part.common), self._words(part, name)
        return PartClass(place, source_name, name, k, n, expected, strength, n_words, written)

    def _words(self, part: HeadPart, target: str) -> tuple[str, ...]:
        """The targets in common that are words of the class, each once, in whatever spelling."""
        names, members = self.classes.targets
        of_class = members[:, names.index(target)]
        texts = (self.maps.checkpoint.vocabulary.text(i) for i in part.common if of_class[i])
        return tuple(dict.fromkeys(core(text) for text in texts if is_word(text)))[:MOST_WRITTEN]

    def _written(self, part: HeadPart) -> tuple[str, int, float, float] | None:
        """The class of the targets in common: its name, how many are of it, how many by its rate, and the strength."""
        names, members = self.classes.targets
        ids = torch.tensor(part.common)
        counts = members[ids].sum(dim=0).tolist()
        found = [
            (log_likelihood_ratio(k, len(ids), max(rate, RAREST)), -size, name, k, rate * len(ids))
            for name, k, size, rate in zip(names, counts, *self._sizes, strict=True)
            if k >= FEWEST_TARGETS
        ]
        strength, _, name, k, expected = max(found, default=(0.0, 0, "", 0, 0.0))
        mixed = name in EVERYDAY and k < EVERYDAY_SHARE * len(ids)  # and so would be a narrower class of them
        return (name, k, expected, strength) if strength >= TARGETS_STRENGTH and not mixed else None

    def _read(self, part: HeadPart) -> tuple[str, int] | None:
        """The class of the words that found the part, and how many are of it."""
        places = [self._places[word] for word in part.members if word in self._places]
        counts, whole = self._sources[places].sum(dim=0), self._sources.sum(dim=0)
        found = [
            (log_likelihood_ratio(k, len(places), n / len(self._sources)), name, k)
            for name, k, n in zip(word_classes(), counts.tolist(), whole.tolist(), strict=True)
            if k >= max(FEWEST_WORDS, WORDS_SHARE * len(places))
        ]
        strength, name, k = max(found, default=(0.0, "", 0))
        return (name, k) if strength >= WORDS_STRENGTH else None

    @cached_property
    def _places(self) -> Mapping[int, int]:
        """Words that find parts, by the id of their token: their place in `_sources`."""
        text = self.maps.checkpoint.vocabulary.text
        return {word: i for i, word in enumerate(w for w in self.maps.part_words if in_finding_half(text(w)))}

    @cached_property
    def _sources(self) -> Tensor:
        """(n, S) of bool: the classes of each word that finds parts."""
        texts = (core(self.maps.checkpoint.vocabulary.text(word)) for word in self._places)
        return torch.tensor([[text in words for words in word_classes().values()] for text in texts])

    @cached_property
    def _sizes(self) -> tuple[list[int], list[float]]:
        """How many tokens each class of targets has, and their share of the vocabulary."""
        members = self.classes.targets[1]
        sizes = members.sum(dim=0)
        return sizes.tolist(), (sizes.double() / len(members)).tolist()
