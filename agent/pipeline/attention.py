"""What heads attend to, read once for a model and kept: in memory, and in the cache for the next process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agent.results.attention_values import attention_made, attention_numbers, attention_words
from agent.runs.identity import constants_hash, content_hash
from agent.words.word_classes import all_classes, word_classes_version
from maps_engine import ordinary_words
from maps_engine.engine import MapsEngine
from maps_engine.errors import CacheUnusable, UnsupportedModel, UserMistake
from maps_engine.fitting import fits, room
from maps_engine.folders import write_atomically
from maps_engine.qk import class_fits, composition, content, made_texts, readings, salient_keys
from maps_engine.qk import kinds as kinds_module
from maps_engine.qk.composition import Composition, read_composition
from maps_engine.qk.kinds import kinds
from maps_engine.results import Feed, HeadAttention, HeadMapping

RULES: Final = (class_fits, composition, content, kinds_module, made_texts, ordinary_words, readings, salient_keys)
VERSION: Final = 2  # raise when the computation changes
FEEDS: Final = 3  # heads that feed keys, queries or values of one
STRONG: Final = 1.5  # times random directions; null heads reach 1.25 (docs/method.md, "What feeds a head")
Told = Callable[[int, int], object]  # layers read, layers wanted
Layers = Sequence[tuple[HeadAttention, ...]]


def untold(_: int, __: int) -> None:
    """The `Told` of a caller who wants no word of progress."""


def attention_rules() -> str:
    """One hash over all that decides how the attention of a model's heads is read."""
    return content_hash([VERSION, FEEDS, STRONG, word_classes_version(), constants_hash(RULES)])[:12]


@dataclass
class AttentionReader:
    """The attention of all heads of one opened model.

    folder: of the cache; None keeps nothing for other processes, as must be where weights were changed in memory.
    """

    maps: MapsEngine
    folder: Path | None = None
    _layers: Layers = field(default=(), repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def layers(self, last: int, told: Told = untold) -> Layers:
        """Of layers 0 to `last` at least. Raises as `maps_engine.qk.readings.read_attention`."""
        with self._lock:
            if len(self._layers) <= last:
                self._layers = self._kept() or self._layers
            if len(self._layers) <= last:
                self._layers = self._read(last, told)
            return self._layers

    def with_attention(
        self, mappings: Sequence[HeadMapping], told: Told = untold, *, whole: bool = False
    ) -> list[HeadMapping]:
        """The mappings with what their heads attend to; without it where that cannot be read of the model, or where the
        words and made-up texts would take longer to pass its blocks than a head's own reading (`maps_engine.fitting`).

        whole: all layers are read, not only those up to the last of the mappings.
        """
        if not mappings or not self._affordable():
            return list(mappings)
        try:
            last = self.maps.shape.n_layers - 1 if whole else max(one.layer for one in mappings)
            layers = self.layers(last, told)
        except (UnsupportedModel, UserMistake):
            return list(mappings)
        return [replace(one, attention=layers[one.layer][one.head]) for one in mappings]

    def seconds(self) -> float:
        """About what reading the whole model takes here, by its second layer and without what feeds its heads; 0 where
        it is kept, or is left out."""
        n_layers, times = self.maps.shape.n_layers, [time.perf_counter()]
        if len(self._layers or self._kept()) == n_layers or not self._affordable():
            return 0.0
        try:
            for _ in self.maps.attention(classes=all_classes(), last=min(1, n_layers - 1)):
                times.append(time.perf_counter())
        except (UnsupportedModel, UserMistake):
            return 0.0
        return (times[-1] - times[-2]) * n_layers

    def _affordable(self) -> bool:
        return fits(readings.TOKENS, self.maps.settings, self.maps.checkpoint)

    def _read(self, last: int, told: Told) -> Layers:
        """From the weights. Numbers are rounded as the file has them, whoever reads them first."""
        found = []
        for heads in self.maps.attention(classes=all_classes(), last=last):
            found.append(heads)
            told(len(found), last + 1)
        values = [[attention_numbers(one) | attention_words(one) for one in heads] for heads in self._fed(found)]
        if self._file and len(self._kept()) < len(values):
            with suppress(CacheUnusable):  # what was read is worth more than keeping it
                write_atomically(self._file, json.dumps(values).encode("ascii"))
        return _layers_of(values)

    def _fed(self, layers: Layers) -> Layers:
        """The same heads with those that feed them; as they are where that cannot be read of the model, or costs more
        than a reading may: L^2 products of d x d matrices for keys, queries and values."""
        weights = self.maps.checkpoint.weights
        if 3.0 * len(layers) ** 2 * weights.shape.d_model**3 > room(weights):
            return layers
        try:
            found = read_composition(self.maps.checkpoint, last=len(layers) - 1)
        except UnsupportedModel:
            return layers
        return [tuple(replace(one, fed_by=_feeds(one, found, layers)) for one in heads) for heads in layers]

    @property
    def _file(self) -> Path | None:
        if self.folder is None:
            return None
        checkpoint = self.maps.checkpoint
        about = [checkpoint.fingerprint, checkpoint.vocabulary.start, str(checkpoint.weights.dtype), attention_rules()]
        return self.folder / "attention" / f"{content_hash(about)[:32]}.json"

    def _kept(self) -> Layers:
        """What another process has read; nothing where the file is damaged or not there."""
        if self._file is None:
            return ()
        try:
            found = _layers_of(json.loads(self._file.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return ()
        whole = all(len(heads) == self.maps.shape.n_heads for heads in found)
        return found if whole else ()


def _feeds(head: HeadAttention, found: Composition, layers: Layers) -> tuple[Feed, ...]:
    edges = [one for one in found.of_head(head.layer, head.head, FEEDS) if one.strength >= STRONG]
    sources = [layers[layer][source] for layer, source in (one.source for one in edges)]
    return tuple(
        Feed(edge.kind, source.layer, source.head, round(edge.strength, 3), kinds(source))
        for edge, source in zip(edges, sources, strict=True)
    )


def _layers_of(values: Sequence[Sequence[Mapping[str, Any]]]) -> Layers:
    return [
        tuple(attention_made(layer, head, one, one) for head, one in enumerate(heads))
        for layer, heads in enumerate(values)
    ]
