"""Where heads look in made-up texts (docs/method.md, "What a head attends to").

A made-up text is the start of a text and words drawn by chance behind it: no data, and what a head does with one word
or another averages out, so that what it does with places is left. In plain texts each word sees the start, itself and
the word before it, in every layer: what it is, and what heads that look at the word before have moved to it, one word
farther in every layer. Texts that repeat themselves tell heads that find a word again, or what came after it. Heads of
several layers do so together, with what earlier ones found far back, so there every word sees all words before it, as
in the running model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from maps_engine.errors import BrokenCheckpoint
from maps_engine.model import ModelWeights, QueriesKeys
from maps_engine.results import HeadAttention

WORDS: Final = 1024  # that are drawn from; tokens learned first are the frequent ones
LENGTH: Final = 64  # of a text, the start included
TEXTS: Final = 16  # without repetition, and as many that repeat themselves
SEED: Final = 0
EARLIEST: Final = 16  # place of the first word whose attention counts: earlier ones have little to choose from
SEES: Final = 1  # words before it that a word of a plain text sees


@dataclass(frozen=True)
class MadeUp:
    """Ids: the start of texts, then words. `plain` is (t, LENGTH); in `repeated` the words of the first half come
    again, so that it is one shorter where an odd number of tokens follows the start."""

    plain: Tensor
    repeated: Tensor

    @classmethod
    def of(cls, words: Sequence[int], start: Sequence[int], device: torch.device) -> MadeUp:
        """By chance, the same every time; `words` are ids, frequent ones first, of which the first `WORDS` count."""
        some, n = torch.tensor(words[:WORDS]), LENGTH - len(start)
        chance = torch.Generator().manual_seed(SEED)
        half = repeated_words(len(start))
        once = torch.stack([torch.randperm(len(some), generator=chance)[:half] for _ in range(TEXTS)])
        first = torch.tensor(list(start), dtype=torch.long).expand(TEXTS, -1)
        plain, twice = drawn(len(some), (TEXTS, n), chance), torch.cat([once, once], dim=1)
        return cls(*(torch.cat([first, some[one]], dim=1).to(device) for one in (plain, twice)))


def drawn(n_words: int, shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    """Places among the first `WORDS` of `n_words` words, frequent ones more often: a rank tells how rare a word is."""
    weights = 1 / (torch.arange(min(n_words, WORDS)) + 3.0)
    return torch.multinomial(weights.expand(*shape[:-1], -1), shape[-1], replacement=True, generator=chance)


class MadeTexts:
    """Made-up texts in front of layer 0, 1, ..., and what the heads there attend to in them."""

    def __init__(self, weights: ModelWeights, words: Sequence[int], start: Sequence[int]) -> None:
        """`words`: ids, frequent ones first; `start`: ids that texts begin with. Raises UnsupportedModel."""
        made, self._weights, self._start = MadeUp.of(words, start, weights.device), weights, len(start)
        self._plain = weights.texts(made.plain, start=len(start), sees=SEES)
        self._repeated = weights.texts(made.repeated, start=len(start), sees=None)

    def heads(self) -> tuple[HeadAttention, ...]:
        """Readings by place of all heads of the layer. Raises UnsupportedModel, BrokenCheckpoint."""
        layer = self._plain.layer
        plain, repeated = (self._weights.queries_keys(layer, one.rows) for one in (self._plain, self._repeated))
        return tuple(by_place(layer, attention(plain), attention(repeated), self._start))

    def advance(self) -> None:
        """On to the next layer. Raises UnsupportedModel, BrokenCheckpoint."""
        self._plain.advance()
        self._repeated.advance()


def by_place(layer: int, plain: Tensor, repeated: Tensor, start: int) -> Iterator[HeadAttention]:
    """Of each head of a layer; attention (t, H, n, n) in both kinds of `MadeUp`, whose first `start` tokens are their
    start."""
    n = repeated_words(start)
    seconds = range(start + n + 1, start + 2 * n)  # words that were read before, with what followed them
    # of words that have a word at this distance: the start, where many heads rest, is no part of the profile
    profile = [_at_offset(plain, range(max(EARLIEST, back + start), LENGTH), back) for back in range(LENGTH - start)]
    first = plain[:, :, EARLIEST:, 0].mean(dim=(0, 2))
    again, after = (_at_offset(repeated, seconds, back) for back in (n, n - 1))
    for head in range(plain.shape[1]):
        offsets = tuple(float(one[head]) for one in profile)
        yield HeadAttention(
            layer=layer,
            head=head,
            previous=offsets[1],
            itself=offsets[0],
            first=float(first[head]),
            duplicate=float(again[head]),
            induction=float(after[head]),
            profile=offsets,
        )


def repeated_words(start: int) -> int:
    """How many words of a text that repeats itself come twice, behind so many tokens of the start."""
    return (LENGTH - start) // 2


def attention(read: QueriesKeys) -> Tensor:
    """(b, H, n, n): attention weights, float32; with sinks a row sums to less than 1. Raises BrokenCheckpoint."""
    logits = read.logits().float()
    if read.sinks is not None:
        sinks = read.sinks.float().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        logits = torch.cat([logits, sinks], dim=-1)
    found = logits.softmax(dim=-1)[..., : read.keys.shape[-2]]
    if bool(found.isnan().any()):
        raise BrokenCheckpoint("weights of attention are not finite", next_step="Fetch the checkpoint again.")
    return found


def _at_offset(weights: Tensor, places: range, offset: int) -> Tensor:
    """(H,): mean attention of the words at `places` to the place that is `offset` before theirs."""
    rows = torch.tensor(places, device=weights.device)
    return weights[:, :, rows, rows - offset].mean(dim=(0, 2))
