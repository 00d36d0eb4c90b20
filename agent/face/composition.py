"""Which heads feed which, as a notebook meets it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.face.results import as_html
from agent.output.composition_json import composition_to_json
from maps_engine.qk.composition import Composition, Edge, Place

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = ("layer", "head", "kind", "from_layer", "from_head", "strength", "deviations")


@dataclass(frozen=True)
class CompositionTable:
    """The earlier heads that feed each head's keys (K), queries (Q) and values (V) most; `found` has the edges."""

    found: Composition

    def of_head(self, layer: int, head: int, n: int = 3) -> tuple[Edge, ...]:
        """The `n` strongest edges of each kind into one head, strongest first."""
        return self.found.of_head(layer, head, n)

    def to_dict(self) -> dict[str, Any]:
        """What `headscribe composition --json` prints, with every edge that is kept."""
        return composition_to_json(self.found, [one for own in self.found.edges.values() for one in own])

    def to_pandas(self) -> pd.DataFrame:
        """One row an edge: `layer, head, kind, from_layer, from_head, strength, deviations`.

        Strength is a ratio to what random directions would give, deviations are its standard deviations from there
        (docs/method.md, "What feeds a head"). Of each head and kind the strongest edges are there, strongest first.
        """
        import pandas as pd

        return pd.DataFrame(self.to_dict()["edges"], columns=list(COLUMNS))

    def figure(self, n: int = 60, *, labels: Mapping[Place, str] | None = None) -> Figure:
        """The `n` strongest edges drawn as a graph: layers to the right, heads upwards, colours by kind.

        `labels` are texts beside heads, by (layer, head); the heads of other edges have none.
        """
        from agent.output.figures.composition import composition_figure

        return composition_figure(self.found, n=n, labels=labels)

    def _repr_html_(self) -> str:
        from agent.output.figures.style import drawing, figure_bytes

        with drawing():
            picture = b64encode(figure_bytes(self.figure(), "png")).decode("ascii")
        ranked = self.to_pandas().sort_values("strength", ascending=False, kind="stable")
        table = as_html(f"What feeds the heads of {self.found.model}", ranked)
        image = f'<img alt="The strongest edges" src="data:image/png;base64,{picture}" style="max-width:100%">'
        return f"{image}{table}"
