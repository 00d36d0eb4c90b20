"""What heads attend to, read once for a model and kept: in memory, and in the cache for the next process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agent.results.attention_values import attention_made, attention_values
from agent.runs.identity import content_hash
from agent.words.word_classes import all_classes, word_classes_version
from maps_engine import ordinary_words
from maps_engine.engine import MapsEngine
from maps_engine.errors import UnsupportedModel, UserMistake
from maps_engine.fitting import fits
from maps_engine.folders import write_atomically
from maps_engine.qk import class_fits, composition, content, made_texts, readings, salient_keys
from maps_engine.qk.composition import Composition, read_composition
from maps_engine.qk.kinds import kinds
from maps_engine.results import Feed, HeadAttention, HeadMapping

RULES: Final = (class_fits, composition, content, made_texts, ordinary_words, readings, salient_keys)
VERSION: Final = 1  # raise when the computation changes
FEEDS: Final = 3  # heads that feed keys, queries or values of one
STRONG: Final = 1.5  # times random directions; null heads reach 1.25 (docs/method.md, "What feeds a head")
Told = Callable[[int, int], object]  # layers read, layers wanted


def untold(_: int, __: int) -> None:
    """The `Told` of a caller who wants no word of progress."""


def attention_rules() -> str:
    """One hash over all that decides how the attention of a model's heads is read."""
    numbers = [(one.__name__, sorted((k, repr(v)) for k, v in vars(one).items() if k.isupper())) for one in RULES]
    return content_hash([VERSION, FEEDS, STRONG, word_classes_version(), numbers])[:12]


@dataclass
class AttentionReader:
    """The attention of all heads of one opened model.

    folder: of the cache; None keeps nothing for other processes, as must be where weights were changed in memory.
    """

    maps: MapsEngine
    folder: Path | None = None
    _layers: list[tuple[HeadAttention, ...]] = field(default_factory=list, repr=False)

    def layers(self, last: int, told: Told = untold) -> Sequence[tuple[HeadAttention, ...]]:
        """Of layers 0 to `last` at least. Raises as `maps_engine.qk.readings.read_attention`."""
        if len(self._layers) <= last:
            self._layers = self._kept()
        if len(self._layers) <= last:
            self._layers = []
            for read in self.maps.attention(classes=all_classes(), last=last):
                self._layers.append(read)
                told(len(self._layers), last + 1)
            self._layers = self._fed(last)
            self._keep()
        return self._layers

    def with_attention(self, mappings: Sequence[HeadMapping], told: Told = untold) -> list[HeadMapping]:
        """The mappings with what their heads attend to; without it where that cannot be read of the model, or where its
        words would take longer to pass the blocks than a head's own reading may (`maps_engine.fitting`)."""
        n_tokens = readings.WORDS + readings.MARKS
        if not mappings or not fits(n_tokens, self.maps.settings, self.maps.checkpoint):
            return list(mappings)
        try:
            layers = self.layers(max(one.layer for one in mappings), told)
        except (UnsupportedModel, UserMistake):
            return list(mappings)
        return [replace(one, attention=layers[one.layer][one.head]) for one in mappings]

    def _fed(self, last: int) -> list[tuple[HeadAttention, ...]]:
        """The heads of all layers with those that feed them; as they are where that cannot be read of the model."""
        try:
            found = read_composition(self.maps.checkpoint, last=last)
        except UnsupportedModel:
            return self._layers
        return [tuple(replace(one, fed_by=self._feeds(one, found)) for one in heads) for heads in self._layers]

    def _feeds(self, head: HeadAttention, found: Composition) -> tuple[Feed, ...]:
        edges = [one for one in found.of_head(head.layer, head.head, FEEDS) if one.strength >= STRONG]
        sources = [self._layers[layer][source] for layer, source in (one.source for one in edges)]
        return tuple(
            Feed(edge.kind, source.layer, source.head, round(edge.strength, 3), kinds(source))
            for edge, source in zip(edges, sources, strict=True)
        )

    @property
    def _file(self) -> Path | None:
        if self.folder is None:
            return None
        checkpoint = self.maps.checkpoint
        identity = [checkpoint.fingerprint, checkpoint.vocabulary.start, attention_rules()]
        return self.folder / "attention" / f"{content_hash(identity)[:32]}.json"

    def _kept(self) -> list[tuple[HeadAttention, ...]]:
        """What another process has read; nothing where the file is damaged or not there."""
        try:
            text = self._file.read_bytes() if self._file else b"[]"
            return [_of_layer(layer, heads) for layer, heads in enumerate(json.loads(text))]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _keep(self) -> None:
        """From here on the numbers are those of the file, rounded, whoever read them first."""
        values = [[attention_values(head) or {} for head in heads] for heads in self._layers]
        self._layers = [_of_layer(layer, heads) for layer, heads in enumerate(values)]
        if self._file:
            write_atomically(self._file, json.dumps(values).encode("ascii"))


def _of_layer(layer: int, values: Sequence[Mapping[str, Any]]) -> tuple[HeadAttention, ...]:
    return tuple(attention_made(layer, head, one, one) for head, one in enumerate(values))
