"""Which heads feed which: layers to the right, heads upwards, the strongest edges of a model coloured by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from agent.output.figures.files import save_figure
from agent.output.figures.style import INK, LINE, SOFT, count_ticks, plain, quiet
from maps_engine.errors import UserMistake
from maps_engine.qk.composition import KINDS, Composition, Edge, Kind, Place

FORMATS: Final = (".png", ".svg")
DRAWN = 60  # edges: with more of them none can be followed
COLOURS: Final[Mapping[Kind, str]] = {"K": "#0072b2", "Q": "#d55e00", "V": "#009e73"}
NAMES: Final[Mapping[Kind, str]] = {"K": "keys", "Q": "queries", "V": "values"}
BENDS: Final[Mapping[Kind, float]] = {"K": 0.16, "Q": -0.16, "V": 0.05}  # edges between the same heads lie apart
MOST_POINTS = 6000  # heads of a model whose points are all drawn


def composition_figure(found: Composition, *, n: int = DRAWN, labels: Mapping[Place, str] | None = None) -> Figure:
    """The `n` strongest edges of the model; `labels`, by (layer, head), stand beside heads that these edges touch."""
    edges = found.strongest(n)
    size = (min(14.0, max(5.2, 1.6 + 0.36 * found.n_layers)), min(10.0, max(3.2, 1.9 + 0.36 * found.n_heads)))
    figure = Figure(figsize=size, facecolor="white")
    axes = figure.add_axes((0.62 / size[0], 0.55 / size[1], 1 - 0.9 / size[0], 1 - 1.55 / size[1]))
    quiet(axes)
    _heads(axes, found, edges)
    for edge in reversed(edges):  # the strongest above the others
        axes.add_patch(_arrow(edge, edges[0].strength))
    for (layer, head), text in (labels or {}).items():
        if (layer, head) in _touched(edges):
            axes.annotate(
                plain(text, 24), (layer, head), (0, 5), textcoords="offset points", size=6, color=INK, ha="center"
            )
    _words(figure, axes, found, edges)
    return figure


def write_composition_figure(found: Composition, path: Path) -> Path:
    """The figure as a file, in the format of its name. Raises UserMistake, FileNotWritten."""
    check_figure_name(path)
    return save_figure(composition_figure(found), path)


def check_figure_name(path: Path) -> None:
    """Raise UserMistake unless the name of a figure's file says a format that is written."""
    if path.suffix.lower() not in FORMATS:
        expected = f"a name that ends with {' or '.join(FORMATS)}"
        raise UserMistake("unknown format of a figure", got=path.name, expected=expected)


def _touched(edges: Sequence[Edge]) -> set[Place]:
    return {place for one in edges for place in (one.reader, one.source)}


def _heads(axes: Axes, found: Composition, edges: Sequence[Edge]) -> None:
    every = [(layer, head) for layer in range(found.n_layers) for head in range(found.n_heads)]
    if len(every) <= MOST_POINTS:
        _points(axes, every, size=7, colour=LINE, above=1)
    _points(axes, sorted(_touched(edges)), size=16, colour=INK, above=3)
    axes.set_xlim(-0.7, found.n_layers - 0.3)
    axes.set_ylim(-0.7, found.n_heads - 0.3)
    count_ticks(axes, found.n_layers, axis="x", room=20)
    count_ticks(axes, found.n_heads, axis="y", room=16)
    axes.set_xlabel("layer", size=8, color=SOFT)
    axes.set_ylabel("head", size=8, color=SOFT)


def _points(axes: Axes, places: Sequence[Place], *, size: float, colour: str, above: int) -> None:
    axes.scatter([layer for layer, _ in places], [head for _, head in places], s=size, color=colour, zorder=above)


def _arrow(edge: Edge, strongest: float) -> FancyArrowPatch:
    share = edge.strength / strongest
    return FancyArrowPatch(
        edge.source,
        edge.reader,
        connectionstyle=f"arc3,rad={BENDS[edge.kind]}",
        arrowstyle="-|>,head_length=3,head_width=1.6",
        color=COLOURS[edge.kind],
        linewidth=0.5 + 1.7 * share**2,
        alpha=0.35 + 0.6 * share**2,
        shrinkA=2,
        shrinkB=3,
        zorder=2,
    )


def _words(figure: Figure, axes: Axes, found: Composition, edges: Sequence[Edge]) -> None:
    width, height = figure.get_size_inches()
    x = 0.62 / width
    figure.text(x, 1 - 0.2 / height, plain(found.model, 50), va="top", size=12, weight="bold", color=INK)
    least = f", from {edges[-1].strength:.1f} times chance on" if edges else ""
    below = f"what feeds a head: the {len(edges)} strongest edges{least}"
    figure.text(x, 1 - 0.46 / height, below, va="top", size=8, color=SOFT)
    handles = [Line2D([], [], color=COLOURS[kind], linewidth=1.8, label=f"{NAMES[kind]} ({kind})") for kind in KINDS]
    axes.legend(
        handles=handles,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.99),
        ncols=3,
    )
