"""Where heads look in made-up texts, from the weights (docs/method.md, "What a head attends to").

A made-up text is the start of a text and words drawn by chance behind it. Each word stands in it as the model has it
when it reads the start and then this word alone; no word knows of the others, but for what previous-token heads in
layers below move to it from the word before. Queries and keys are those of the model's own attention, places included
(`QueriesKeys`), so that a softmax over the text gives attention weights; over many texts the words average out, and
what a head does with places is left. Texts that repeat their words tell heads that find a word again, or what came
after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.errors import BrokenCheckpoint
from maps_engine.model import ModelWeights, QueriesKeys
from maps_engine.results import HeadAttention

WORDS = 1024  # that are drawn from; tokens learned first are the frequent ones
LENGTH = 64  # of a text, the start included
TEXTS = 16  # without repetition, and as many that repeat themselves
SEED = 0
EARLIEST = 16  # place of the first word whose attention counts: earlier ones have little to choose from


@dataclass(frozen=True)
class _Texts:
    """Places among the words that are read (t, n) with n words a text; the start of texts is not among them."""

    plain: Tensor
    repeated: Tensor

    @classmethod
    def drawn(cls, n_words: int, start: int) -> _Texts:
        """By chance, the same every time."""
        chance = torch.Generator().manual_seed(SEED)
        n = LENGTH - start
        plain = drawn(n_words, (TEXTS, n), chance)
        once = torch.stack([torch.randperm(n_words, generator=chance)[: n // 2] for _ in range(TEXTS)])
        return cls(plain, torch.cat([once, once], dim=1))


def drawn(n_words: int, shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    """Places among the first `WORDS` of `n_words` words, frequent ones more often: a rank tells how rare a word is."""
    weights = 1 / (torch.arange(min(n_words, WORDS)) + 3.0)
    return torch.multinomial(weights.expand(*shape[:-1], -1), shape[-1], replacement=True, generator=chance)


@dataclass
class MadeTexts:
    """Reads the heads of layer 0, 1, ... in this order: what earlier heads move from a word to the next is kept.

    n_read: words that there are rows of; the first `WORDS` of them are drawn from. start: tokens that texts begin with.
    """

    weights: ModelWeights
    n_read: int
    start: int

    def __post_init__(self) -> None:
        self._n = min(self.n_read, WORDS)
        self._texts, self._moved = _Texts.drawn(self._n, self.start), torch.zeros(())

    def heads(self, layer: int, words: Tensor, start: Tensor) -> tuple[HeadAttention, ...]:
        """Readings by place of all heads; words (n, d) and the start of texts (s, d) as they reach the block."""
        if not layer:
            self._moved = words.new_zeros(self._n + 1, words.shape[1])
        read = _Layer(self.weights, layer, words[: self._n], start, self._moved)
        found = tuple(read.heads(self._texts))
        self._moved = self._moved + read.written(words.new_tensor([one.previous for one in found]))
        return found


@dataclass(frozen=True)
class _Layer:
    """What reaches one layer: words (n, d), the start of texts (s, d), and what is moved from each of them, (n + 1, d):
    last from the end of the start, behind which every word was read."""

    weights: ModelWeights
    layer: int
    words: Tensor
    start: Tensor
    moved: Tensor

    def heads(self, texts: _Texts) -> Iterator[HeadAttention]:
        plain, repeated = self._attention(texts.plain), self._attention(texts.repeated)
        s, n = len(self.start), texts.repeated.shape[1] // 2
        seconds = range(s + n + 1, s + 2 * n)  # words that were read before, with what followed them
        # of words that have a word at this distance: the start, where many heads rest, is no part of the profile
        profile = [_at_offset(plain, range(max(EARLIEST, offset + s), LENGTH), offset) for offset in range(LENGTH - s)]
        first = plain[:, :, EARLIEST:, 0].mean(dim=(0, 2))
        again = _at_offset(repeated, seconds, n)
        after = _at_offset(repeated, seconds, n - 1)
        for head in range(self.weights.shape.n_heads):
            offsets = tuple(float(one[head]) for one in profile)
            yield HeadAttention(
                layer=self.layer,
                head=head,
                previous=offsets[1],
                itself=offsets[0],
                first=float(first[head]),
                duplicate=float(again[head]),
                induction=float(after[head]),
                profile=offsets,
            )

    def _attention(self, texts: Tensor) -> Tensor:
        """(t, H, n, n) of the words `texts` (t, n - s) behind the start."""
        rows = self.words[texts]
        rows[:, 1:] += self.moved[texts[:, :-1]] - self.moved[-1]
        start = self.start.expand(len(texts), *self.start.shape)
        return attention(self.weights.queries_keys(self.layer, torch.cat([start, rows], dim=1)))

    def written(self, shares: Tensor) -> Tensor:
        """(n + 1, d): what the heads of the layer write for each word, each `shares` (H,) of it, together."""
        norm, own = self.weights.attention_norm(self.layer), self.weights.attention(self.layer)
        rows = torch.cat([self.words, self.start[-1:]])
        values = torch.einsum("nd,kde->nke", rows if norm is None else norm(rows), own.value)
        values = values if own.value_bias is None else values + own.value_bias
        values = values.repeat_interleave(len(shares) // values.shape[1], dim=1)
        written = torch.einsum("nhe,hed,h->nd", values, own.output, shares)
        post = self.weights.post_attention_norm(self.layer)  # makes its input of size 1, however little is moved
        return written if post is None else post(written) * shares.max()


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
