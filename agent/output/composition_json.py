"""Edges between heads as plain JSON values: the same from a command and from Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from maps_engine.qk.composition import Composition, Edge


def composition_to_json(found: Composition, edges: Iterable[Edge]) -> dict[str, Any]:
    """`model, layers, heads, edges`; an edge is `layer, head, kind, from_layer, from_head, strength, deviations`."""
    return {
        "model": found.model,
        "layers": found.n_layers,
        "heads": found.n_heads,
        "edges": [
            {
                "layer": one.reader[0],
                "head": one.reader[1],
                "kind": one.kind,
                "from_layer": one.source[0],
                "from_head": one.source[1],
                "strength": one.strength,
                "deviations": one.deviations,
            }
            for one in edges
        ],
    }
