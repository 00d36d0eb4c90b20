"""Do heads attend from one class of words to another in the running model, as is read from their weights?

Texts are ordinary words drawn by chance, with a word of the first class near their end and a word of the second class
some places before it. Beside each stands the same text with an ordinary word in that place: what a head attends to
there more, in nats, is what the class does. Words of classes are of the half in which no claim was found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from agent.words.word_classes import all_classes
from eval.faithfulness.attention.readings import Claim
from eval.faithfulness.running.running_model import RunningModel
from maps_engine.model import Vocabulary
from maps_engine.ordinary_words import in_finding_half
from maps_engine.qk.made_texts import WORDS, drawn
from maps_engine.qk.readings import words_read

LENGTH: Final = 32  # tokens of a text
TEXTS: Final = 24  # of each pair of classes, and as many without the second class
DISTANCES: Final = (2, 4, 8, 16)  # tokens from the word of the second class to that of the first
LATE: Final = 8  # last places of a text, in one of which a word of the first class stands
FLOOR: Final = 1e-9  # attention below it counts as this much
SEED: Final = 2
Pair = tuple[str | None, str]
"""Classes of the words that attend, None where all words do, and of those attended to."""


@dataclass(frozen=True)
class ClassTexts:
    """Ids (t, LENGTH) with words of both classes and without the second, which are the same for all pairs of one first
    class; places (t,) of the two words."""

    having: Tensor
    lacking: Tensor
    queries: Tensor
    keys: Tensor


@dataclass(frozen=True)
class ClassMeasure:
    """Of all heads (L, H): nats more attention, the mean over texts, and the standard error of it."""

    mean: Tensor
    error: Tensor

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: _rounded(getattr(self, name)) for name in ("mean", "error")}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ClassMeasure:
        """What `to_json` gave."""
        return cls(*(torch.tensor(values[name], dtype=torch.float64) for name in ("mean", "error")))


def pairs_of(claims: Sequence[Claim]) -> tuple[Pair, ...]:
    """Each once, in the order of the heads that are said to have them."""
    return tuple(dict.fromkeys((one.reads, one.seeks) for one in claims))


def class_texts(vocabulary: Vocabulary, pair: Pair) -> ClassTexts:
    """The same every time. Words of a class are those of which attention is read (`maps_engine.qk.readings`)."""
    ids = words_read(vocabulary)
    some, start = torch.tensor(ids[:WORDS]), torch.tensor(vocabulary.start, dtype=torch.long)
    reads, seeks = pair
    chance, of_pair = (_seeded(one) for one in (repr(reads), repr(pair)))
    words = some[drawn(len(some), (TEXTS, LENGTH - len(start)), chance)]
    lacking, each = torch.cat([start.expand(TEXTS, -1), words], dim=1), torch.arange(TEXTS)
    queries = torch.randint(LENGTH - LATE, LENGTH, (TEXTS,), generator=chance)
    keys = queries - torch.tensor(DISTANCES).repeat(TEXTS)[:TEXTS]
    if reads is not None:
        lacking[each, queries] = _members(vocabulary, ids, reads, chance)
    having = lacking.clone()
    having[each, keys] = _members(vocabulary, ids, seeks, of_pair)
    return ClassTexts(having, lacking, queries, keys)


def _seeded(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(SEED + int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))


def _members(vocabulary: Vocabulary, ids: Sequence[int], label: str, chance: torch.Generator) -> Tensor:
    """(TEXTS,): ids of words of a class, by chance."""
    (holds,) = (one.holds for one in all_classes() if one.label == label)
    texts = {i: vocabulary.text(i) for i in ids}
    found = torch.tensor([i for i, text in texts.items() if holds(text) and not in_finding_half(text)])
    return found[torch.randint(len(found), (TEXTS,), generator=chance)]


def attention_logs(model: RunningModel, ids: Tensor, texts: ClassTexts) -> Tensor:
    """(L, t, H): log attention of the running model from one place to the other in `ids`, one kind of the texts.

    Raises AttentionOutOfReach.
    """
    each = torch.arange(TEXTS)
    layers = [one[each, :, texts.queries, texts.keys] for one in model.attention_weights(ids)]
    return torch.stack(layers).double().cpu().clamp_min(FLOOR).log()


def class_measure(having: Tensor, lacking: Tensor) -> ClassMeasure:
    """Of `attention_logs` (L, t, H) with and without the second class."""
    nats = having - lacking
    return ClassMeasure(nats.mean(dim=1), nats.std(dim=1) / TEXTS**0.5)


def _rounded(values: Tensor) -> list[list[float]]:
    return [[round(one, 6) for one in layer] for layer in values.tolist()]
