"""Figures of the report as SVG or PNG: static against dynamic scores, ablation curves, settings."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

Format = Literal["svg", "png"]
BLUE, ORANGE, GREY, GREEN = "#2f6fb0", "#d98a1f", "#6b7583", "#3f8f5b"
COLUMNS = 4


def scatter_grid(panels: Mapping[str, tuple[Tensor, Tensor, float | None]], *, file_format: Format = "svg") -> bytes:
    """One panel an operation: phi of every head against phi* without context, and r."""
    figure, axes = _grid(len(panels), width=2.6, height=2.5)
    for axis, (name, (static, dynamic, r)) in zip(axes, panels.items(), strict=False):
        axis.scatter(static.flatten().tolist(), dynamic.flatten().tolist(), s=9, color=BLUE, alpha=0.55, linewidths=0)
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=":")
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axis.set_title(name if r is None else f"{name}\nr = {r:.2f}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("score from weights, φ", fontsize=9)
    figure.supylabel("score at inference, φ*, without context", fontsize=9)
    return _saved(figure, file_format)


def ablation_curves(rows: Sequence[Mapping[str, Any]], *, file_format: Format = "svg") -> bytes:
    """One panel an operation: accuracy against the number of heads removed, 95 % intervals over prompts."""
    figure, axes = _grid(len(rows), width=2.7, height=2.3)
    for axis, row in zip(axes, rows, strict=False):
        for what, colour, label in (("random", GREY, "random heads"), ("relation", BLUE, "the operation's heads")):
            _curve(axis, row["curve"], what, colour, label)
        control = row["zero"]["control"]
        if control["value"] is not None:
            spread = [[control["value"] - control["low"]], [control["high"] - control["value"]]]
            axis.errorbar(
                [row["removed"]], [control["value"]], yerr=spread, color=ORANGE, fmt="D", ms=4, label="control tasks"
            )
        axis.set(ylim=(-0.04, 1.04), yticks=(0, 0.5, 1))
        axis.xaxis.get_major_locator().set_params(integer=True)  # heads are whole
        axis.set_title(row["name"], fontsize=8)
        axis.tick_params(labelsize=7)
    if rows:
        axes[0].legend(fontsize=6, frameon=False)
    figure.supxlabel("heads removed, strongest first", fontsize=9)
    figure.supylabel("accuracy", fontsize=9)
    return _saved(figure, file_format)


def setting_bars(rows: Sequence[Mapping[str, Any]], *, file_format: Format = "svg") -> bytes:
    """Mean r over operations of each setting, best first, under both projections."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(6.4, 0.5 + 0.42 * len(rows)), layout="constrained")
    places = list(range(len(rows)))
    for shift, projection, colour in ((-0.18, "plain", BLUE), (0.18, "folded", ORANGE)):
        values = [row["without_context"][projection] for row in rows]
        label = f"{projection} projection"
        axis.barh([place + shift for place in places], values, height=0.34, color=colour, label=label)
    axis.set_yticks(places, [row["setting"] for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("mean r over operations, without context", fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.legend(fontsize=7, frameon=False, loc="lower right")
    return _saved(figure, file_format)


def _curve(axis: Any, curve: Sequence[Mapping[str, Any]], what: str, colour: str, label: str) -> None:
    n = [point["n"] for point in curve]
    values, low, high = ([point[what][part] for point in curve] for part in ("value", "low", "high"))
    axis.plot(n, values, color=colour, marker="o", ms=3, linewidth=1.2, label=label)
    axis.fill_between(n, low, high, color=colour, alpha=0.18, linewidth=0)


def _grid(n: int, *, width: float, height: float) -> tuple[Any, list[Any]]:
    columns = min(COLUMNS, max(n, 1))
    rows = max(1, math.ceil(n / columns))
    figure, axes = _pyplot().subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    flat = list(axes.flatten())
    for axis in flat[n:]:
        axis.set_visible(False)
    return figure, flat


def _saved(figure: Any, file_format: Format) -> bytes:
    buffer = io.BytesIO()
    # no date and fixed ids: the same numbers give the same file
    metadata = {"Date": None} if file_format == "svg" else None
    figure.savefig(buffer, format=file_format, dpi=130, metadata=metadata)
    _pyplot().close(figure)
    return buffer.getvalue()


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "headscribe"
    import matplotlib.pyplot as plt

    return plt
