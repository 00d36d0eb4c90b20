"""Figures of the report as SVG: static against dynamic scores, ablation curves, settings, layers, attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from agent.output.figures.style import BLUE, GREY, INK, ORANGE, drawing, figure_bytes, plain

COLUMNS = 4
LINES = (BLUE, ORANGE, GREY, INK)
Row = Mapping[str, Any]
Panel = tuple[list[float], list[float], float | None]  # points across and up, and what they correlate with


def scatter_grid(panels: Mapping[str, tuple[Tensor, Tensor, float | None]]) -> bytes:
    """One panel an operation: phi of every head against phi* without context, and r."""
    across, up = "score from weights, φ", "score at inference, φ*, without context"
    listed = {name: (x.flatten().tolist(), y.flatten().tolist(), r) for name, (x, y, r) in panels.items()}
    return _panels(listed, across, up, "r")


def reading_scatter(panels: Mapping[str, Panel]) -> bytes:
    """One panel a reading of attention: what is read of every head against its real attention, and rho."""
    return _panels(panels, "attention read from weights", "attention in the running model", "ρ")


def class_scatter(read: Sequence[float], real: Sequence[float]) -> bytes:
    """From class to class: nats of every claim read from weights against those in the running model."""
    with drawing():
        figure = Figure(figsize=(3.2, 3.0), layout="constrained")
        axis = figure.add_subplot()
        axis.scatter(read, real, s=9, color=BLUE, alpha=0.55, linewidths=0)
        ends = [min(0.0, *read, *real), max(1.0, *read, *real)]
        axis.plot(ends, ends, color=GREY, linewidth=0.7, linestyle=":")
        axis.axhline(0, color=GREY, linewidth=0.7)
        axis.set(xlabel="nats read from weights", ylabel="nats in the running model")
        return figure_bytes(figure)


def _panels(panels: Mapping[str, Panel], across: str, up: str, sign: str) -> bytes:
    with drawing():
        figure, axes = _grid(len(panels), width=2.6, height=2.5)
        for axis, (name, (x, y, r)) in zip(axes, panels.items(), strict=False):
            axis.scatter(x, y, s=9, color=BLUE, alpha=0.55, linewidths=0)
            axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=":")
            axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
            axis.set_title(plain(name) if r is None else f"{plain(name)}\n{sign} = {r:.2f}")
        figure.supxlabel(across, fontsize=9)
        figure.supylabel(up, fontsize=9)
        return figure_bytes(figure)


def ablation_curves(rows: Sequence[Row]) -> bytes:
    """One panel an operation: accuracy against the number of heads removed, 95 % intervals over prompts."""
    with drawing():
        figure, axes = _grid(len(rows), width=2.7, height=2.3)
        for axis, row in zip(axes, rows, strict=False):
            _ablation(axis, row)
        if rows:
            axes[0].legend(fontsize=6)
        figure.supxlabel("heads removed, strongest first", fontsize=9)
        figure.supylabel("accuracy", fontsize=9)
        return figure_bytes(figure)


def _ablation(axis: Axes, row: Row) -> None:
    for what, colour, label in (("random", GREY, "random heads"), ("relation", BLUE, "the operation's heads")):
        _curve(axis, row["curve"], what, colour, label)
    control = row["zero"]["control"]
    if control["value"] is not None:
        spread = [[control["value"] - control["low"]], [control["high"] - control["value"]]]
        point = ([row["removed"]], [control["value"]])
        axis.errorbar(*point, yerr=spread, color=ORANGE, fmt="D", ms=4, label="control tasks")
    axis.set(ylim=(-0.04, 1.04), yticks=(0, 0.5, 1))
    axis.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))  # heads are whole
    axis.set_title(plain(row["name"]))


def _curve(axis: Axes, curve: Sequence[Row], what: str, colour: str, label: str) -> None:
    n = [point["n"] for point in curve]
    values, low, high = ([point[what][part] for point in curve] for part in ("value", "low", "high"))
    axis.plot(n, values, color=colour, marker="o", ms=3, linewidth=1.2, label=label)
    axis.fill_between(n, low, high, color=colour, alpha=0.18, linewidth=0)


def setting_bars(rows: Sequence[Row]) -> bytes:
    """Mean r over operations of each setting, best first, under both projections."""
    with drawing():
        figure = Figure(figsize=(6.4, 0.5 + 0.42 * len(rows)), layout="constrained")
        axis = figure.add_subplot()
        places = list(range(len(rows)))
        for shift, projection, colour in ((-0.18, "plain", BLUE), (0.18, "folded", ORANGE)):
            values = [row["without_context"][projection] for row in rows]
            label = f"{projection} projection"
            axis.barh([place + shift for place in places], values, height=0.34, color=colour, label=label)
        axis.set_yticks(places, [plain(row["setting"]) for row in rows])
        axis.invert_yaxis()
        axis.set_xlabel("mean r over operations, without context")
        axis.legend(loc="lower right")
        return figure_bytes(figure)


def layer_lines(rows: Sequence[Row], *, up: str = "r without context", legend: str = "lower right") -> bytes:
    """r of every layer under up to four settings; a layer without r leaves a gap."""
    with drawing():
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axis = figure.add_subplot()
        for row, colour in zip(rows, LINES, strict=False):
            r = [math.nan if value is None else value for value in row["by_layer"]]
            axis.plot(range(len(r)), r, color=colour, marker="o", ms=3, linewidth=1.2, label=plain(row["setting"]))
        axis.axhline(0, color=GREY, linewidth=0.7, linestyle=":")
        axis.set(ylim=(min(-0.04, *axis.get_ylim()), 1.04), xlabel="layer", ylabel=up)
        axis.set_xlim(-0.5, max([len(row["by_layer"]) for row in rows], default=1) - 0.5)  # silent layers show as such
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axis.legend(loc=legend)
        return figure_bytes(figure)


def _grid(n: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, max(n, 1))
    rows = max(1, math.ceil(n / columns))
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    flat = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for axis in flat[n:]:
        axis.set_visible(False)
    return figure, flat
