"""What is asked of a head: pairs of single tokens, each with targets of other sources, behind neutral prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eval.faithfulness.running.pair_choice import SourcePairs
from eval.faithfulness.running.templates import PromptMaker
from maps_engine.model import Vocabulary
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.significance import shuffled

PROMPTS: Final = (  # no word twice, so that a word of a pair takes one prompt away at most
    "After some time there was",
    "Here is something about the",
    "Much of what happened then",
)
PROMPTS_A_PAIR: Final = 2
ROUNDS: Final = 5  # of dealing: they cost no passes, since all targets are read off the same logits


@dataclass(frozen=True)
class AskedPair:
    """A source, its first accepted target, and the first accepted targets of the sources that it is confused with."""

    source: int
    target: int
    dealt: tuple[int, ...]
    prompts: tuple[int, ...]  # which of PROMPTS it runs in

    @property
    def wanted(self) -> tuple[int, ...]:
        """Its own target first."""
        return (self.target, *self.dealt)


def neutral_prompts(maker: PromptMaker) -> list[tuple[int, ...]]:
    """Token ids of PROMPTS, with what the tokenizer puts before a text."""
    return [maker.start(text) for text in PROMPTS]


def asked_pairs(pairs: SourcePairs, prompts: Sequence[Sequence[int]], vocabulary: Vocabulary) -> list[AskedPair]:
    """The pairs that can be asked: some other source's target is wrong for them, and some prompt is without them.

    One target a pair, the first that is accepted: the best of several would move most by being several.
    """
    own = PairSet(tuple(source for (source,) in pairs.sources), pairs.targets, pairs.k)
    dealt: dict[int, list[int]] = {source: [] for source in own.sources}
    mixed = shuffled(own, rounds=ROUNDS)
    for source, targets in zip(mixed.sources, mixed.targets, strict=True):
        dealt[source].append(targets[0])
    known = [{_word(vocabulary, i) for i in ids} for ids in prompts]
    found = []
    for source, targets in zip(own.sources, own.targets, strict=True):
        words = {_word(vocabulary, i) for i in (source, targets[0], *dealt[source])}
        fitting = tuple(i for i, one in enumerate(known) if not words & one)[:PROMPTS_A_PAIR]
        if fitting and dealt[source]:
            found.append(AskedPair(source, targets[0], tuple(dealt[source]), fitting))
    return found


def _word(vocabulary: Vocabulary, token: int) -> str:
    """Whatever its spaces and capitals: a prompt with "The" is not without "the"."""
    return vocabulary.text(token).strip().casefold()
