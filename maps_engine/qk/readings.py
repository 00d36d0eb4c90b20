"""What all heads of a model attend to, from the weights: words and made-up texts pass the blocks once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from maps_engine.errors import UserMistake
from maps_engine.model import Checkpoint, Vocabulary
from maps_engine.ordinary_words import ordinary_marks, ordinary_words
from maps_engine.qk.class_fits import ClassHalves, NamedClass, class_fits
from maps_engine.qk.content import content
from maps_engine.qk.made_texts import LENGTH, SEED, TEXTS, MadeTexts, drawn
from maps_engine.qk.salient_keys import popular_keys, salient_queries
from maps_engine.results import HeadAttention

WORDS: Final = 2048  # that are read alone, the first learned
MARKS: Final = 96  # beside them
TOKENS: Final = WORDS + MARKS + 2 * TEXTS * LENGTH  # that pass the blocks, those of made-up texts among them
LEAD_IN: Final = 1  # word behind the start of texts, drawn by chance, that every word is read behind
LIKE_START: Final = 0.8  # cosine of a word's row and the start's, from which on, where it is
LONG: Final = 2.0  # times as long as most rows, the word is left out as a second start


def read_attention(
    checkpoint: Checkpoint, *, classes: Sequence[NamedClass] = (), last: int | None = None
) -> Iterator[tuple[HeadAttention, ...]]:
    """The readings of all heads of layer 0, 1, ... up to `last`; `classes` are those that `fits` tells of.

    Raises UserMistake where no token is known that texts begin with, or there are too few words; UnsupportedModel where
    the model's blocks or its attention cannot be run, or it has fewer places than texts need.
    """
    weights, vocabulary = checkpoint.weights, checkpoint.vocabulary
    before, ids = read_behind(checkpoint), torch.tensor(words_read(vocabulary), device=weights.device)
    halves = ClassHalves.of([vocabulary.text(i) for i in ids.tolist()], classes, weights.device)
    stream, texts = (
        weights.residuals(ids, before),
        MadeTexts(weights, ordinary_words(vocabulary, WORDS), vocabulary.start),
    )
    for layer in range(weights.shape.n_layers if last is None else last + 1):
        if layer:
            stream.advance()
            texts.advance()
        words_alone = _no_second_starts(stream.rows, stream.start)
        read, own = content(weights, layer, stream.rows[words_alone]), ids[words_alone]
        fits = class_fits(read, halves.among(words_alone))
        heads = []
        for one, of_classes in zip(texts.heads(), fits, strict=True):
            popular, avoided = popular_keys(read, one.head, own, vocabulary)
            attends = salient_queries(read, one.head, own, vocabulary)
            heads.append(replace(one, attends=attends, popular=popular, avoided=avoided, fits=of_classes))
        yield tuple(heads)


def words_read(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Ids that are read alone: ordinary words, the first learned first, then marks."""
    return (*ordinary_words(vocabulary, WORDS), *ordinary_marks(vocabulary, MARKS))


def read_behind(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Ids that every word is read behind: the start of texts and `LEAD_IN` words, the same every time.

    Right behind the start alone words are not what they are later in a text (docs/method.md, "What a head attends to").
    Raises UserMistake as `read_attention`.
    """
    start, words = checkpoint.vocabulary.start, ordinary_words(checkpoint.vocabulary, WORDS)
    if not start:
        raise UserMistake("this model's texts begin with no token that is known", got=checkpoint.name)
    if len(words) < LENGTH:
        raise UserMistake("too few whole words to make texts of", got=len(words), expected=f"at least {LENGTH}")
    return (*start, *(words[i] for i in drawn(len(words), (LEAD_IN,), torch.Generator().manual_seed(SEED)).tolist()))


def _no_second_starts(rows: Tensor, start: Tensor) -> Tensor:
    """(n,): words that stay words so near the start of a text. Some (" the", " from" in lower layers of the default
    model) become a second start there, with the huge values that a start has, which they seldom do later in a text."""
    lengths = rows.norm(dim=1)
    alike = torch.nn.functional.cosine_similarity(rows, start[:1], dim=1)
    return ~((alike > LIKE_START) & (lengths > LONG * lengths.median()))
