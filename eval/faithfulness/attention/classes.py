"""Do heads attend from one class of words to another in the running model, as is read from their weights?

Texts are ordinary words drawn by chance. A word of the second class is put into one place, a word of the first class
into a later one, or both, or neither. A head does what is said of it where it attends more to the word of the second
class than to an ordinary word in its place, and that by more from a word of the first class than from an ordinary one:
what all queries prefer is no news of the first class. Where all queries are said to prefer a class, the first
difference alone counts. Words are of the half on which the claim was tested when it was read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from scipy import stats
from torch import Tensor

from agent.words.word_classes import all_classes
from eval.faithfulness.attention.readings import Claim
from eval.faithfulness.running.running_model import RunningModel
from maps_engine.model import Vocabulary
from maps_engine.ordinary_words import in_finding_half, ordinary_words
from maps_engine.qk.made_texts import WORDS, drawn
from maps_engine.qk.readings import words_read

LENGTH: Final = 32  # tokens of a text
TEXTS: Final = 24
DISTANCES: Final = (2, 4, 8, 16)  # tokens from the place of the second class to that of the first
LATE: Final = 8  # last places of a text, one of which is that of the first class
FEWEST: Final = 8  # texts of a pair that can be used
FLOOR: Final = 1e-9  # attention below it counts as this much
SEED: Final = 2
VERSION: Final = 1  # raise when something else is measured
Pair = tuple[str | None, str]
"""Classes of the words that attend, None where all words do, and of those attended to."""


def pairs_of(claims: Sequence[Claim]) -> tuple[Pair, ...]:
    """Each once, in the order of the heads that are said to have them."""
    return tuple(dict.fromkeys((one.reads, one.seeks) for one in claims))


class ClassTexts:
    """The same ordinary words for all classes, and the words of classes that are put among them, every time the same.

    ids (TEXTS, LENGTH); queries, keys (TEXTS,): the places of the first and of the second class.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        some, start = torch.tensor(ordinary_words(vocabulary, WORDS)), torch.tensor(vocabulary.start, dtype=torch.long)
        chance = torch.Generator().manual_seed(SEED)
        words = some[drawn(len(some[:WORDS]), (TEXTS, LENGTH - len(start)), chance)]
        self.ids = torch.cat([start.expand(TEXTS, -1), words], dim=1)
        self.queries = torch.randint(LENGTH - LATE, LENGTH, (TEXTS,), generator=chance)
        self.keys = self.queries - torch.tensor(DISTANCES).repeat(TEXTS)[:TEXTS]

    def having(self, reads: str | None, seeks: str | None) -> Tensor:
        """The ids with words of the classes in their places; None leaves the ordinary word there."""
        found, each = self.ids.clone(), torch.arange(TEXTS)
        if reads is not None:
            found[each, self.queries] = self._members(reads, "queries")
        if seeks is not None:
            found[each, self.keys] = self._members(seeks, "keys")
        return found

    def usable(self, pair: Pair) -> Tensor:
        """(TEXTS,): where no ordinary word is of the class that it stands for, and the two words are not the same."""
        reads, seeks = pair
        each, whole = torch.arange(TEXTS), self.having(*pair)
        found = ~self._held(seeks, self.ids[each, self.keys])
        if reads is not None:
            found &= ~self._held(reads, self.ids[each, self.queries])
            found &= whole[each, self.queries] != whole[each, self.keys]
        return found

    def digest(self, pair: Pair) -> str:
        """12 hex digits that change with any word or place of a pair."""
        parts = (self.ids, self.having(*pair), self.queries, self.keys, self.usable(pair))
        return hashlib.sha256(repr([one.tolist() for one in parts]).encode()).hexdigest()[:12]

    def _members(self, label: str, place: str) -> Tensor:
        """(TEXTS,): ids of words of a class, by chance."""
        ids = torch.tensor([i for i in words_read(self._vocabulary) if not in_finding_half(self._vocabulary.text(i))])
        found = ids[self._held(label, ids)]
        seed = SEED + int(hashlib.sha256(f"{place} {label}".encode()).hexdigest()[:8], 16)
        return found[torch.randint(len(found), (TEXTS,), generator=torch.Generator().manual_seed(seed))]

    def _held(self, label: str, ids: Tensor) -> Tensor:
        (holds,) = (one.holds for one in all_classes() if one.label == label)
        return torch.tensor([holds(self._vocabulary.text(i)) for i in ids.tolist()])


@dataclass(frozen=True)
class ClassMeasure:
    """Of all heads (L, H): nats that are attended more, the mean over `n` texts, with its 95 % interval."""

    mean: Tensor
    low: Tensor
    high: Tensor
    n: int

    @classmethod
    def of(cls, nats: Tensor) -> ClassMeasure:
        """Of texts (L, t, H)."""
        n, mean = nats.shape[1], nats.mean(dim=1)
        reach = float(stats.t.ppf(0.975, n - 1)) * nats.std(dim=1) / n**0.5
        return cls(mean, mean - reach, mean + reach, n)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: _rounded(getattr(self, name)) for name in ("mean", "low", "high")} | {"n": self.n}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ClassMeasure:
        """What `to_json` gave."""
        mean, low, high = (torch.tensor(values[name], dtype=torch.float64) for name in ("mean", "low", "high"))
        return cls(mean, low, high, int(values["n"]))


class MeasuredClasses:
    """Pairs of classes in the running model; texts that several pairs share are run once."""

    def __init__(self, model: RunningModel, texts: ClassTexts, batch: int) -> None:
        self._model, self._texts, self._batch = model, texts, batch
        self._shared: dict[tuple[str | None, str | None], Tensor] = {}

    def measure(self, pair: Pair) -> ClassMeasure:
        """Raises AttentionOutOfReach."""
        reads, seeks = pair
        nats = self._logs(None, seeks) - self._logs(None, None)
        if reads is not None:
            nats = self._run(self._texts.having(*pair)) - self._logs(reads, None) - nats
        return ClassMeasure.of(nats[:, self._texts.usable(pair)])

    def _logs(self, reads: str | None, seeks: str | None) -> Tensor:
        key = reads, seeks
        if key not in self._shared:
            self._shared[key] = self._run(self._texts.having(*key))
        return self._shared[key]

    def _run(self, ids: Tensor) -> Tensor:
        """(L, t, H): log attention from the place of the first class to that of the second."""
        found, parts = [], (ids.split(self._batch), self._texts.queries.split(self._batch))
        for batch, queries, keys in zip(*parts, self._texts.keys.split(self._batch), strict=True):
            each = torch.arange(len(batch))
            layers = [one[each, :, queries, keys].float().cpu() for one in self._model.attention_weights(batch)]
            found.append(torch.stack(layers))
        return torch.cat(found, dim=1).double().clamp_min(FLOOR).log()


def _rounded(values: Tensor) -> list[list[float]]:
    return [[round(one, 6) for one in layer] for layer in values.tolist()]
