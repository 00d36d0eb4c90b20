"""Semantic fields: which labelled word lists a token belongs to, by membership or by nearness of its vector.

Score of a token for a field: mean cosine of its three nearest example words there; 1 for an example word itself.
A token counts as a member above the field's own threshold, the 97th percentile of the example words of all other
fields, so broad and vague fields ask for more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.words.embedder import Embedder, Vectors, embed_fixed
from agent.words.spelling import core, is_word
from prompts import load_prompts

NEAREST = 3
QUANTILE = 0.97
BACKGROUND = 900  # example words that set the thresholds
FLOOR = 0.40  # no nearness below this cosine makes a member
BY_EXAMPLE_ONLY = frozenset({  # MiniLM puts every fragment and mark near these
    "punctuation marks", "brackets and quotes", "mathematical signs", "code punctuation", "letters of the alphabet",
    "Greek letters", "Roman numerals", "prefixes", "suffixes", "parts of scientific words", "parts of names",
    "word endings of adjectives", "academic citation words", "interjections",
})  # fmt: skip


class SemanticFields:
    """The labelled fields of `prompts`, embedded once."""

    def __init__(self, embedder: Embedder, *, cache_folder: Path | None = None) -> None:
        fields = load_prompts().field_labels
        self.labels: tuple[str, ...] = tuple(fields)
        self._embedder = embedder
        self._cache_folder = cache_folder
        words = [word for members in fields.values() for word in members]
        self._example_vectors = embed_fixed(embedder, words, cache_folder)
        self.centre: Vectors = self._example_vectors.mean(axis=0)
        self.embedder_name = embedder.name
        self._places = _places([len(members) for members in fields.values()])
        self._members = _member_index(fields)
        self._by_vector = np.array([label not in BY_EXAMPLE_ONLY for label in fields])
        self._known: dict[str, Vectors] = {}
        self._thresholds = self._set_thresholds(words)

    def vectors(self, words: Sequence[str]) -> Vectors:
        """(n, width) unit vectors of words, each embedded once per process."""
        missing = [w for w in dict.fromkeys(words) if w not in self._known]
        if missing:
            found = self._embedder.embed(missing)
            self._known.update(zip(missing, found, strict=True))
        if not words:
            return np.zeros((0, self._embedder.width), dtype=np.float32)
        return np.stack([self._known[w] for w in words])

    def remember(self, words: Sequence[str]) -> None:
        """Embed fixed words that are not known yet, and keep their vectors on disk under the hash of the whole list."""
        if all(word in self._known for word in words):
            return
        vectors = embed_fixed(self._embedder, words, self._cache_folder)
        self._known.update(zip(words, vectors, strict=True))

    def members(self, tokens: Sequence[str]) -> NDArray[np.bool_]:
        """(n, fields): which tokens count as members of which fields; fragments only as example words."""
        near = np.zeros((len(tokens), len(self.labels)), dtype=bool)
        speaking = [i for i, token in enumerate(tokens) if has_meaning(token)]
        if speaking:
            scores = self._scores(self.vectors([core(tokens[i]) for i in speaking]))
            near[speaking] = (scores >= self._thresholds) & self._by_vector
        for i, token in enumerate(tokens):
            near[i, list(self._members.get(core(token), ()))] = True
        return near

    def _scores(self, vectors: Vectors) -> Vectors:
        """(n, fields): mean cosine of the nearest example words."""
        cosines = vectors @ self._example_vectors.T
        padded = np.concatenate([cosines, np.full((len(cosines), 1), -1.0, np.float32)], axis=1)
        by_field = padded[:, self._places]  # (n, fields, widest), -1 where a field is shorter
        nearest: Vectors = np.partition(by_field, -NEAREST, axis=2)[:, :, -NEAREST:].mean(axis=2)
        return nearest

    def _set_thresholds(self, words: Sequence[str]) -> Vectors:
        """(fields,): the 97th percentile over example words of other fields, never below the floor."""
        step = max(1, len(words) // BACKGROUND)
        sample = np.arange(0, len(words), step)
        scores = self._scores(self._example_vectors[sample])
        for row, place in enumerate(sample):
            scores[row, list(self._members[core(words[int(place)])])] = np.nan
        return np.maximum(np.nanquantile(scores, QUANTILE, axis=0), FLOOR).astype(np.float32)


def has_meaning(token: str) -> bool:
    """Whether a token can stand for a word of its own: three letters, and a leading space or a capital."""
    word = token.strip()
    return len(word) >= 3 and is_word(word) and (token.startswith(" ") or word[0].isupper())


def _places(sizes: Sequence[int]) -> NDArray[np.intp]:
    """(fields, widest): positions of each field's words in the list of all; -1 pads."""
    places = np.full((len(sizes), max(sizes)), -1, dtype=np.intp)
    start = 0
    for row, size in enumerate(sizes):
        places[row, :size] = np.arange(start, start + size)
        start += size
    return places


def _member_index(fields: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[int, ...]]:
    index: dict[str, list[int]] = {}
    for number, members in enumerate(fields.values()):
        for word in members:
            index.setdefault(core(word), []).append(number)
    return {word: tuple(numbers) for word, numbers in index.items()}
