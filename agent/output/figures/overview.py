"""A whole model at a glance: operations by layer, share of heads by category, operations per head."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from agent.output.figures.style import INK, LINE, SOFT, colour_of, count_ticks, plain, quiet, score_map
from maps_engine.scores.head_structure import Findings
from maps_engine.scores.table import ModelScores, RelationScores

ROW, WIDTH, LABELS = 0.155, 9.2, 2.35  # inches


def operations_by_layer(scores: ModelScores, found: Findings) -> Figure:
    """Above: share of heads of each layer, by category. Below: the best head of each layer, by operation."""
    rows = sorted(scores.scored, key=lambda one: (one.category, -_best(one), one.name))
    lower = max(1.2, ROW * len(rows))
    height = 1.1 + 2.1 + 0.75 + lower + 0.6
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    width = WIDTH - LABELS - 1.15

    def place(bottom: float, tall: float) -> Axes:
        return figure.add_axes((LABELS / WIDTH, bottom / height, width / WIDTH, tall / height))

    table = place(0.6, lower)
    shares = place(0.6 + lower + 0.75, 2.1)
    _shares(shares, found, scores.n_layers)
    _table(table, rows, found, scores.n_layers)
    tall = min(lower, 2.4)
    bar = figure.add_axes(((LABELS + width + 0.22) / WIDTH, (0.6 + lower - tall) / height, 0.13 / WIDTH, tall / height))
    figure.colorbar(table.images[0], cax=bar, ticks=[0, 0.5, 1]).outline.set_edgecolor(LINE)
    bar.tick_params(length=0, labelsize=8, colors=SOFT)
    title = f"{plain(scores.model)}: {len(rows)} operations on {scores.n_layers} x {scores.n_heads} heads"
    figure.text(0.22 / WIDTH, 1 - 0.22 / height, title, va="top", size=13, weight="bold", color=INK)
    below = f"{plain(scores.reading)}; a head implements an operation from {found.tau:g} on"
    figure.text(0.22 / WIDTH, 1 - 0.5 / height, below, va="top", size=8.5, color=SOFT)
    return figure


def _best(one: RelationScores) -> float:
    return 0.0 if one.score is None else float(one.score.max())


def _shares(axes: Axes, found: Findings, n_layers: int) -> None:
    quiet(axes)
    others = [one.category for one in found.categories]
    for one in found.categories:
        shares = [100 * share for share in one.by_layer]
        axes.plot(shares, color=colour_of(one.category, others), linewidth=1.8, label=plain(one.category, 20))
    axes.set_xlim(-0.5, n_layers - 0.5)
    axes.set_ylim(0, max(5.0, axes.get_ylim()[1]))
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    count_ticks(axes, n_layers, axis="x", room=20)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_title("heads that implement at least one operation of a category", size=9, color=INK, loc="left")
    axes.legend(
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        loc="upper left",
        handlelength=1.2,
        bbox_to_anchor=(1.0, 1.04),
    )


def _table(axes: Axes, rows: list[RelationScores], found: Findings, n_layers: int) -> None:
    best = [one.score.max(dim=1).values.tolist() for one in rows if one.score is not None]
    axes.imshow(best, cmap=score_map(), vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    quiet(axes)
    axes.set_yticks(range(len(rows)), [plain(one.name, 34) for one in rows])
    others = [one.category for one in found.categories]
    for label, one in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(colour_of(one.category, others))
        label.set_fontsize(7.5)
    for i, (above, below) in enumerate(pairwise(rows)):
        if above.category != below.category:
            axes.axhline(i + 0.5, color=SOFT, linewidth=0.8)
    count_ticks(axes, n_layers, axis="x", room=20)
    axes.set_xlabel("layer", size=9, color=SOFT)
    axes.set_title("score of the best head of each layer", size=9, color=INK, loc="left")


def operations_per_head(scores: ModelScores, found: Findings) -> Figure:
    """How many heads implement 1, 2, 3, … operations; those that implement none are said, not drawn."""
    figure = Figure(figsize=(6.4, 3.6), facecolor="white")
    axes = figure.add_axes((0.11, 0.16, 0.85, 0.62))
    quiet(axes)
    counts = found.operations_per_head
    bars = list(counts[1:]) or [0]
    drawn = axes.bar(range(1, len(bars) + 1), bars, color="#7a3b8f", width=0.82)
    if len(bars) <= 24:
        labels = [str(n) if n else "" for n in bars]
        axes.bar_label(drawn, labels, size=8, color=INK, padding=2)
    axes.set_xlim(0.3, max(len(bars), 5) + 0.7)
    axes.set_ylim(0, max(1, max(bars)) * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xticks(range(1, max(len(bars), 5) + 1, max(1, round(len(bars) / 20))))
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("operations that a head implements", size=9, color=SOFT)
    axes.set_ylabel("heads", size=9, color=SOFT)
    total = sum(counts)
    figure.text(
        0.03,
        0.95,
        f"{plain(scores.model, 44)}: operations per head",
        va="top",
        size=12,
        weight="bold",
        color=INK,
    )
    none = total - found.n_implementing
    below = f"{len(scores.scored)} operations, {total} heads; {none} implement none (below {found.tau:g} in all)"
    figure.text(0.03, 0.87, below, va="top", size=8.5, color=SOFT)
    return figure
