"""X with its mean over the vocabulary taken off: of M, what is the same whatever token is read.

M is linear in X, so this takes one constant row off M: M'[s, t] = M[s, t] - mean_s M[s, t]. What a head writes whatever
it reads fills much of a row and says nothing about the token (docs/method.md, "Source representations"). A bias behind
W_V is the same for all tokens and so is in that mean: whoever centres X leaves the bias out as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maps_engine.errors import UserMistake
from maps_engine.model import Checkpoint, ModelWeights
from maps_engine.ov.sources import Sources

SAMPLE = 512  # ordinary tokens that the mean is taken over


def centring_sample(checkpoint: Checkpoint) -> Tensor:
    """(n,) ids: SAMPLE ordinary tokens spread evenly over the vocabulary, or all where there are fewer.

    Raises UserMistake for a vocabulary without any.
    """
    ids = ordinary_ids(checkpoint)
    if not len(ids):
        raise UserMistake("X cannot be centred", got="a vocabulary without ordinary tokens")
    return spread(ids)


def ordinary_ids(checkpoint: Checkpoint) -> Tensor:
    """(n,): tokens that are no markers, bytes or padding, rising."""
    kind = checkpoint.vocabulary.kind
    normal = [i for i in range(checkpoint.weights.shape.vocab_size) if kind(i) == "normal"]
    return torch.tensor(normal, dtype=torch.long, device=checkpoint.weights.device)


def spread(ids: Tensor) -> Tensor:
    """SAMPLE of `ids` at equal distances, or all where there are fewer."""
    n = min(len(ids), SAMPLE)
    return ids[torch.arange(n, device=ids.device) * len(ids) // n]


class CentredSources:
    """Rows of another representation less their mean over `sample` (n,); the interface `sources.Sources`."""

    def __init__(self, inner: Sources, sample: Tensor) -> None:
        self._inner, self._sample = inner, sample
        self._means: dict[int, Tensor] = {}  # (d,) by version

    @property
    def weights(self) -> ModelWeights:
        return self._inner.weights

    def rows(self, layer: int, ids: Tensor | slice) -> Tensor:
        """(n, d): centred X of the tokens `ids` as heads of `layer` read them."""
        return self._inner.rows(layer, ids) - self._mean(layer)

    def hold(self, layer: int) -> Tensor:
        """(V, d): all rows for `layer`; what is kept in memory are those that are not centred."""
        return self._inner.hold(layer) - self._mean(layer)

    def is_stored(self, layer: int) -> bool:
        """Whether X of `layer` costs little to read again: where it does before it is centred."""
        return self._inner.is_stored(layer)

    def version(self, layer: int) -> int:
        """Layers of equal version have the same X."""
        return self._inner.version(layer)

    def _mean(self, layer: int) -> Tensor:
        version = self._inner.version(layer)
        if version not in self._means:
            self._means[version] = self._inner.rows(layer, self._sample).mean(0)
        return self._means[version]
