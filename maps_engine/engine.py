"""Open a model once, then ask for mappings and relation scores of its heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import UnsupportedModel
from maps_engine.fitting import fitted
from maps_engine.model import Checkpoint, ModelShape
from maps_engine.ov.pair_scores import PairScores, PairSet
from maps_engine.ov.residuals import Passed, unseen
from maps_engine.ov.source_maps import HELD_OUT, Precision, SourceEngine
from maps_engine.ov.sources import check_source_name
from maps_engine.parts.head_parts import PartAxes, PartsReader
from maps_engine.qk.class_fits import NamedClass
from maps_engine.qk.readings import read_attention
from maps_engine.results import EngineSettings, HeadAttention, HeadMapping, RowsView

DEFAULT_SETTINGS = EngineSettings()


@dataclass
class MapsEngine:
    """One checkpoint under one set of settings.

    `passed` is told how many blocks the vocabulary has passed, and how many it has to, where that takes minutes.
    """

    checkpoint: Checkpoint
    settings: EngineSettings = DEFAULT_SETTINGS
    precision: Precision = "auto"  # of the scan over all heads; the lists are float32's either way
    passed: Passed = unseen
    _by_source: dict[str, SourceEngine] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._left_open = self.settings.source == "auto"
        self.settings = fitted(self.settings, self.checkpoint)
        check_source_name(self.settings.source)

    @classmethod
    def open(
        cls,
        model: str,
        *,
        settings: EngineSettings = DEFAULT_SETTINGS,
        revision: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> MapsEngine:
        """Open `model` (alias, hub id, folder or GGUF file); only headers are read yet.

        Raises UserMistake for an unknown source or device, and what `open_checkpoint` raises.
        """
        if settings.source != "auto":  # a wrong name is told before a model is fetched
            check_source_name(settings.source)
        return cls(open_checkpoint(model, revision=revision, device=device), settings, precision)

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        return self.checkpoint.weights.shape

    def at(self, source: str) -> SourceEngine:
        """The engine under one named representation; kept, so that X is computed once. Raises UserMistake."""
        if source not in self._by_source:
            settings = replace(self.settings, source=source)
            made = SourceEngine(self.checkpoint, settings, self.precision, lambda *count: self.passed(*count))
            for other in self._by_source.values():
                if other.folding == made.folding:  # the same U, and the same rounded rows of it
                    made.unembedding, made.low_precision = other.unembedding, other.low_precision
                    break
            self._by_source[source] = made
        return self._by_source[source]

    @cached_property
    def truest(self) -> str:
        """The representation that agrees best with the running model: `residual`, or what rows are read under.

        The latter where the model's blocks cannot be run, or nothing is known to read before a token.
        """
        own, last = self.settings, min(1, self.shape.n_layers - 1)
        if not self.checkpoint.vocabulary.start and not any(own.lead_in):
            return own.source
        try:
            self.at("residual").sources.rows(last, torch.tensor([0], device=self.checkpoint.weights.device))
        except UnsupportedModel:
            return own.source
        return "residual"

    def for_scores(self, source: str | None = None) -> str:
        """The representation that scores are read under: the one asked for here, else when the engine was opened.

        Where both leave it open, the truest: scores need X of a few tokens, which large models have cheaply too.
        """
        if source == "auto" or (source is None and self._left_open):
            return self.truest
        return self.settings.source if source is None else EngineSettings(source).source

    def check_head(self, layer: int, head: int) -> None:
        """Raise OutOfRange unless the model has this layer and head (both count from 0)."""
        self.at("embedding").check_head(layer, head)

    def map_head(self, layer: int, head: int, *, held_out: int = HELD_OUT) -> HeadMapping:
        """Salient tokens of one head and what it maps them to; `held_out` rows more than the settings list.

        Raises OutOfRange, and BrokenCheckpoint where weights are not finite.
        """
        return self.at(self.settings.source).map_head(layer, head, held_out=held_out)

    def map_heads(
        self,
        layers: Iterable[int] | None = None,
        *,
        heads: Sequence[int] | None = None,
        held_out: int = HELD_OUT,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[HeadMapping]:
        """Mappings of `heads` (default: all) of `layers`, layer by layer, heads in order. Raises as `map_head`.

        `progress` is called with each layer that is done.
        """
        wanted = range(self.shape.n_heads) if heads is None else heads
        for layer in range(self.shape.n_layers) if layers is None else layers:
            for head in wanted:
                self.check_head(layer, head)
            yield from self.at(self.settings.source).map_layer(layer, heads=wanted, held_out=held_out)
            if progress is not None:
                progress(layer)

    def attention(
        self, *, classes: Sequence[NamedClass] = (), last: int | None = None
    ) -> Iterator[tuple[HeadAttention, ...]]:
        """What the heads of layer 0, 1, ... up to `last` attend to (docs/method.md, "What a head attends to").

        Raises as `maps_engine.qk.readings.read_attention`.
        """
        return read_attention(self.checkpoint, classes=classes, last=last)

    def with_parts(self, mappings: Sequence[HeadMapping]) -> list[HeadMapping]:
        """The mappings with the parts of their heads, read as their rows were (docs/method.md, "A head in parts")."""
        found = []
        for layer in dict.fromkeys(one.layer for one in mappings):
            own = [one for one in mappings if one.layer == layer]
            parts = self._parts.of_layer(layer, [one.head for one in own])
            found += [self._parts.at.with_parts(one, of_one) for one, of_one in zip(own, parts, strict=True)]
        return found

    def part_axes(self, layer: int, head: int, *, n: int = 1) -> PartAxes:
        """`n` directions of each part of a head, in the order of `with_parts`. Raises OutOfRange."""
        self.check_head(layer, head)
        return self._parts.axes(layer, head, n=n)

    @property
    def part_words(self) -> tuple[int, ...]:
        """Ids of the words among which parts are found and tested."""
        return tuple(self._parts.words.tolist())

    @cached_property
    def _parts(self) -> PartsReader:
        return PartsReader(self.at(self.settings.source))

    def with_same_tokens(self, mappings: Sequence[HeadMapping]) -> list[HeadMapping]:
        """The mappings with their rows' tokens read as the truest reading has them, where they are read under another.

        The tokens of all heads pass the blocks together, which takes about as long as testing those heads.
        """
        if self.truest == self.settings.source:
            return list(mappings)
        at = self.at(self.truest)
        rows = at.rows_of_heads({(m.layer, m.head): [row.token_id for row in m.rows] for m in mappings})
        reading = replace(at.settings, words=None).reading
        return [at.with_view(m, RowsView(reading, rows[m.layer, m.head])) for m in mappings]

    def score_pairs(
        self,
        pair_sets: Sequence[PairSet],
        *,
        source: str,
        layers: Iterable[int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[PairScores]:
        """Relation and suppression scores, (L, H) for each set of pairs of token ids, read through `source`.

        Raises UserMistake for an unknown source.
        """
        return self.at(source).score_pairs(pair_sets, layers=layers, progress=progress)
