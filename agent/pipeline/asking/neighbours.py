"""Heads of the same layer whose mappings are most alike: one pass over a layer, kept for its other heads.

Only the layer is searched: its weights are at hand, and heads that share a value head are among them, and the paper
found that these implement the same or similar relations.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from agent.words.embedder import Vectors
from agent.words.mapping_vectors import MappingEmbedder
from maps_engine.engine import MapsEngine
from maps_engine.results import HeadMapping, MappingRow

NEAREST: Final = 3
SHOWN_ROWS: Final = 4
LAYERS_KEPT: Final = 4


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A head, how alike its mapping is (cosine), and its first rows."""

    layer: int
    head: int
    similarity: float
    shares_value_head: bool
    rows: tuple[MappingRow, ...]


@dataclass
class Neighbours:
    """Finds them; safe to use from several threads. `lock` is the one that guards the engine."""

    maps: MapsEngine
    vectors: MappingEmbedder
    lock: threading.RLock
    _layers: OrderedDict[tuple[str, int], list[tuple[HeadMapping, Vectors]]] = field(default_factory=OrderedDict)

    def of(self, mapping: HeadMapping, n: int = NEAREST) -> tuple[Neighbour, ...]:
        """The `n` nearest other heads of the layer, read through the same source, nearest first."""
        with self.lock:
            layer = self._layer(mapping.source, mapping.layer)
        own = next(vector for one, vector in layer if one.head == mapping.head)
        value_head = self.maps.shape.value_head_of
        found = [
            Neighbour(
                one.layer,
                one.head,
                float(own @ vector),
                value_head(one.head) == value_head(mapping.head),
                one.rows[:SHOWN_ROWS],
            )
            for one, vector in layer
            if one.head != mapping.head
        ]
        return tuple(sorted(found, key=lambda one: (-one.similarity, one.head))[:n])

    def _layer(self, source: str, layer: int) -> list[tuple[HeadMapping, Vectors]]:
        if (source, layer) not in self._layers:
            mappings = self.maps.at(source).map_layer(layer, held_out=0)
            embed = self.vectors.embed
            vectors = [embed([(r.token, [t.token for t in r.targets]) for r in one.rows]) for one in mappings]
            self._layers[source, layer] = list(zip(mappings, vectors, strict=True))
            while len(self._layers) > LAYERS_KEPT:
                self._layers.popitem(last=False)
        return self._layers[source, layer]
