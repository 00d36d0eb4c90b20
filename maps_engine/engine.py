"""Open a model once, then ask for mappings and relation scores of its heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.model import Checkpoint, ModelShape
from maps_engine.ov.pair_scores import PairScores, PairSet
from maps_engine.ov.source_maps import HELD_OUT, Precision, SourceEngine
from maps_engine.ov.sources import check_source_name
from maps_engine.results import EngineSettings, HeadMapping, SourceChoice
from maps_engine.source_choice import SourceChooser

DEFAULT_SETTINGS = EngineSettings(source="auto")


@dataclass
class MapsEngine:
    """One checkpoint under one set of settings; `source="auto"` chooses the representation head by head."""

    checkpoint: Checkpoint
    settings: EngineSettings = DEFAULT_SETTINGS
    precision: Precision = "auto"  # of the scan over all heads; the lists are float32's either way
    _by_source: dict[str, SourceEngine] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.settings.source != "auto":
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
        if settings.source != "auto":
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
            made = SourceEngine(self.checkpoint, settings, self.precision)
            for other in self._by_source.values():
                if other.folding == made.folding:  # the same U, and the same rounded rows of it
                    made.unembedding, made.low_precision = other.unembedding, other.low_precision
                    break
            self._by_source[source] = made
        return self._by_source[source]

    @cached_property
    def chooser(self) -> SourceChooser:
        """Chooses the representation of each head under "auto"."""
        return SourceChooser(self.checkpoint, self.settings, self.at)

    def source_of(self, layer: int, head: int) -> SourceChoice:
        """The representation that `head` is read through, and the others where it was chosen. Raises OutOfRange."""
        self.check_head(layer, head)
        if self.settings.source != "auto":
            return SourceChoice(self.settings.source, "user")
        return self.chooser.for_heads(layer, [head])[0]

    def check_head(self, layer: int, head: int) -> None:
        """Raise OutOfRange unless the model has this layer and head (both count from 0)."""
        self.at("embedding").check_head(layer, head)

    def map_head(self, layer: int, head: int, *, held_out: int = HELD_OUT) -> HeadMapping:
        """Salient tokens of one head and what it maps them to; `held_out` rows more than the settings list.

        Raises OutOfRange, and BrokenCheckpoint where weights are not finite.
        """
        choice = self.source_of(layer, head)
        mapping = self.at(choice.source).map_head(layer, head, held_out=held_out)
        return replace(mapping, source_choice=choice)

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
            choices = dict(zip(wanted, self._choices(layer, wanted), strict=True))
            found: dict[int, HeadMapping] = {}
            for source in {choice.source for choice in choices.values()}:
                own = [h for h, choice in choices.items() if choice.source == source]
                found |= {m.head: m for m in self.at(source).map_layer(layer, heads=own, held_out=held_out)}
            for head, choice in choices.items():
                yield replace(found[head], source_choice=choice)
            if progress is not None:
                progress(layer)

    def _choices(self, layer: int, heads: Sequence[int]) -> list[SourceChoice]:
        for head in heads:
            self.check_head(layer, head)
        if self.settings.source != "auto":
            return [SourceChoice(self.settings.source, "user") for _ in heads]
        return self.chooser.for_heads(layer, heads)

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
