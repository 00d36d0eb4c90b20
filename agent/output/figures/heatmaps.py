"""One operation over all heads: promotion and suppression side by side on one fixed scale from 0 to 1."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from agent.output.figures.style import INK, LINE, SOFT, count_ticks, plain, quiet, score_map
from maps_engine.scores.table import ModelScores, RelationScores

MAX_PANEL = (4.6, 6.6)  # inches
MAX_CELL, MIN_PANEL_WIDTH, MIN_PANEL_HEIGHT = 0.24, 2.0, 1.2


def operation_heatmap(scores: ModelScores, one: RelationScores, *, tau: float) -> Figure:
    """Layers upwards, heads to the right, the best head of each side framed; raises ValueError when not scored."""
    if one.score is None or one.suppression is None:
        raise ValueError(f"{one.name} was not scored")
    layers, heads = one.score.shape
    cell_w, cell_h = _cell(layers, heads)
    width, height = cell_w * heads, cell_h * layers
    left, gap, right, bottom, top = 0.62, 0.42, 0.95, 0.55, 1.05
    size = (left + 2 * width + gap + right, bottom + height + top)
    figure = Figure(figsize=size, facecolor="white")
    axes = []
    for i, (table, title) in enumerate(((one.score, "promotes"), (one.suppression, "suppresses"))):
        x = (left + i * (width + gap)) / size[0]
        axes.append(figure.add_axes((x, bottom / size[1], width / size[0], height / size[1])))
        _panel(axes[i], table, title, labelled=i == 0)
    bar = figure.add_axes(((size[0] - right + 0.2) / size[0], bottom / size[1], 0.13 / size[0], height / size[1]))
    _colour_bar(figure, axes[0], bar, tau)
    x = left / size[0]
    figure.text(x, 1 - 0.2 / size[1], plain(one.name, 44), va="top", size=12, weight="bold", color=INK)
    mark = ", targets by first token" if one.target == "first-token" else ""
    below = (
        f"{plain(scores.model, 40)}\n{plain(scores.reading)}; k = {one.k}; {one.n_used} of {one.n_pairs} pairs{mark}"
    )
    figure.text(x, 1 - 0.43 / size[1], below, va="top", size=7, color=SOFT, linespacing=1.35)
    return figure


def _cell(layers: int, heads: int) -> tuple[float, float]:
    """Width and height of a cell in inches: square unless the panel would become too narrow."""
    side = min(MAX_CELL, MAX_PANEL[0] / heads, MAX_PANEL[1] / layers)
    return max(side, MIN_PANEL_WIDTH / heads), max(side, MIN_PANEL_HEIGHT / layers)


def _panel(axes: Axes, table: Tensor, title: str, *, labelled: bool) -> None:
    layers, heads = table.shape
    axes.imshow(
        table.numpy(),
        cmap=score_map(),
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    quiet(axes)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(LINE)
    count_ticks(axes, heads, axis="x", room=14)
    count_ticks(axes, layers, axis="y", room=18)
    axes.set_xlabel("head", size=8, color=SOFT)
    if labelled:
        axes.set_ylabel("layer", size=8, color=SOFT)
    else:
        axes.tick_params(labelleft=False)
    value, where = float(table.max()), divmod(int(table.argmax()), heads)
    axes.set_title(f"{title}: {where[0]}.{where[1]}  {value:.2f}", size=8.5, color=INK, loc="left", pad=5)
    if value > 0:
        _mark(axes, *where, crowded=max(heads, layers) > 40)


def _mark(axes: Axes, layer: int, head: int, *, crowded: bool) -> None:
    """A frame around the best head, a little away from it where cells are small."""
    margin = 0.9 if crowded else 0.5
    corner, side = (head - margin, layer - margin), 2 * margin
    frame = {"fill": False, "clip_on": False, "zorder": 5}
    axes.add_patch(Rectangle(corner, side, side, edgecolor="white", linewidth=2.4, **frame))  # type: ignore[arg-type]
    axes.add_patch(Rectangle(corner, side, side, edgecolor="#0091ff", linewidth=1.3, **frame))  # type: ignore[arg-type]


def _colour_bar(figure: Figure, axes: Axes, bar: Axes, tau: float) -> None:
    made = figure.colorbar(axes.images[0], cax=bar, ticks=[0, 0.25, 0.5, 0.75, 1])
    made.outline.set_edgecolor(LINE)
    bar.tick_params(length=0, labelsize=7.5, colors=SOFT, pad=3)
    bar.axhline(tau, color="#0091ff", linewidth=1.2)
    bar.text(-0.35, tau, "τ", size=8, color="#0091ff", ha="right", va="center", transform=bar.get_yaxis_transform())
