"""One vector for a mapping, made of what makes operations alike: the relation between source and target.

Four parts, each of unit length or less, weighted and joined, then normalised:
- source: mean of the centred source vectors; target: the same of the targets (copies of the source left out);
- offset: the common direction of target minus source, found by mean shift so that rows that do not fit count little;
- form: square roots of each form operation's excess share of rows over crossed rows (targets of other rows).
Centring takes away the mean vector of the labelled word lists, which all words share.
Vectors of the pairs as plain text were measured against it: tests/benchmarks/retrieval.py. See docs/method.md,
"Retrieval".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from agent.words.embedder import Vectors
from agent.words.fields import SemanticFields
from agent.words.forms import FORMS
from agent.words.spelling import core

Pairs: TypeAlias = Sequence[tuple[str, Sequence[str]]]

VERSION: Final = 1
OFFSET_WEIGHT: Final = 0.5
FORM_WEIGHT: Final = 2 / 3
SHARPNESS: Final = 6.0  # of the mean shift: exp(6 cos)
CROSSINGS: Final = (1, 5, 11)  # rows further on whose targets serve as the chance rate of a form


class MappingEmbedder:
    """Pairs (source, targets) to one unit vector of `width` numbers."""

    def __init__(self, fields: SemanticFields) -> None:
        self._fields = fields
        self._centre: Vectors = fields.centre
        self.width = 3 * len(self._centre) + len(FORMS)
        self._once: dict[Pairs, Vectors] = {}
        self.name = f"mapping-{VERSION}.{len(FORMS)}/{fields.embedder_name}"

    def embed(self, pairs: Pairs) -> Vectors:
        """(width,) of one mapping; the zero vector when there are no pairs with words in them."""
        used = [(s, [t for t in targets if core(t)]) for s, targets in pairs if core(s)]
        used = [(s, targets) for s, targets in used if targets]
        if not used:
            return np.zeros(self.width, dtype=np.float32)
        self._fields.vectors([core(w) for s, targets in used for w in (s, *targets)])  # one batch
        kept = [(s, [t for t in targets if core(t) != core(s)] or targets) for s, targets in used]
        sources = self._words([s for s, _ in kept])
        targets = np.stack([self._words(words).mean(axis=0) for _, words in kept])
        each = np.concatenate([self._words(words) - sources[i] for i, (_, words) in enumerate(kept)])
        parts = (
            _unit(sources.mean(axis=0)),
            _unit(targets.mean(axis=0)),
            OFFSET_WEIGHT * _common_direction(each),
            FORM_WEIGHT * _form_excess(used),
        )
        return _unit(np.concatenate(parts).astype(np.float32))

    def embed_once(self, pairs: tuple[tuple[str, tuple[str, ...]], ...]) -> Vectors:
        """The same, made once for each mapping and then held."""
        if pairs not in self._once:
            self._once[pairs] = self.embed(pairs)
        return self._once[pairs]

    def embed_many(self, mappings: Sequence[Pairs]) -> Vectors:
        """(n, width) of fixed mappings, whose word vectors are kept on disk."""
        self.remember(mappings)
        return np.array([self.embed(pairs) for pairs in mappings], dtype=np.float32).reshape(-1, self.width)

    def remember(self, mappings: Sequence[Pairs]) -> None:
        """Read the word vectors of fixed mappings from the disk, or make and keep them."""
        self._fields.remember(sorted({core(w) for pairs in mappings for s, targets in pairs for w in (s, *targets)}))

    def _words(self, words: Sequence[str]) -> Vectors:
        vectors: Vectors = self._fields.vectors([core(w) for w in words]) - self._centre
        return vectors


def _unit(vector: Vectors) -> Vectors:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-9 else vector


def _common_direction(vectors: Vectors, *, steps: int = 3) -> Vectors:
    """Mean shift on the sphere: the direction that most vectors share."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, 1e-9)
    centre = directions.mean(axis=0)
    for _ in range(steps):
        weights = np.exp(SHARPNESS * (directions @ _unit(centre)))
        centre = (weights[:, None] * directions).sum(axis=0) / weights.sum()
    return _unit(centre)


def _form_excess(pairs: Pairs) -> Vectors:
    """(forms,): square root of each form's share of rows beyond its share among crossed rows."""
    n = len(pairs)
    excess = []
    for form in FORMS:
        own = sum(any(form.holds(s, t) for t in targets) for s, targets in pairs) / n
        crossed = 0.0
        if own > 0 and n > max(CROSSINGS):
            crossed = sum(
                any(form.holds(pairs[i][0], t) for t in pairs[(i + step) % n][1])
                for i in range(n)
                for step in CROSSINGS
            ) / (n * len(CROSSINGS))
        excess.append(max(0.0, own - crossed))
    return np.sqrt(np.array(excess, dtype=np.float32))
