"""Scores by layer, own and swapped descriptions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agent.output.figures.style import BLUE, GREY, ORANGE, drawing, figure_bytes, plain
from eval.scoring.questions.scorers import CHANCE
from eval.scoring.results import HeadScore
from maps_engine.files import write_whole


def write_figure(path: Path, scores: Sequence[HeadScore], title: str) -> Path:
    """One panel a scorer, a dot a head, lines through the means of layers. Raises FileNotWritten."""
    names = list(dict.fromkeys(one.scorer for one in scores))
    with drawing():
        figure = Figure(figsize=(3.2 * len(names), 3.2), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            _panel(axes, name, [one for one in scores if one.scorer == name])
        figure.axes[0].set_ylabel("score")
        figure.axes[0].legend()
        figure.suptitle(plain(title, 200), fontsize="medium")
        return write_whole(path, figure_bytes(figure, path.suffix.lstrip(".").lower()), parents=True)


def _panel(axes: Axes, name: str, scores: Sequence[HeadScore]) -> None:
    for label, colour, points in _sides(scores):
        if not points:
            continue
        layers, values = np.array(points).T
        axes.plot(layers, values, "o", color=colour, alpha=0.35, markersize=3)
        means = [(layer, values[layers == layer].mean()) for layer in np.unique(layers)]
        axes.plot(*np.array(means).T, color=colour, label=label)
    axes.axhline(CHANCE[name], color=GREY, linewidth=0.8, linestyle=":")
    axes.set(title=name, xlabel="layer", ylim=(-0.03, 1.03))


def _sides(scores: Sequence[HeadScore]) -> list[tuple[str, str, list[tuple[int, float]]]]:
    own = [(one.layer, one.own.score) for one in scores if one.own.score is not None]
    swapped = [(one.layer, one.swapped.score) for one in scores if one.swapped and one.swapped.score is not None]
    return [("own description", BLUE, own), ("swapped", ORANGE, swapped)]
