"""Scores by layer, own and swapped descriptions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from eval.results_folder import write_whole
from eval.scoring.questions.scorers import CHANCE
from eval.scoring.results import HeadScore


def write_figure(path: Path, scores: Sequence[HeadScore], title: str) -> Path:
    """One panel a scorer, a dot a head, lines through the means of layers. Raises Failure."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(one.scorer for one in scores))
    figure = Figure(figsize=(3.2 * len(names), 3.2), layout="constrained")
    for place, name in enumerate(names, 1):
        axes = figure.add_subplot(1, len(names), place)
        for label, colour, points in _sides([one for one in scores if one.scorer == name]):
            if not points:
                continue
            layers, values = np.array(points).T
            axes.plot(layers, values, "o", color=colour, alpha=0.35, markersize=3)
            means = [(layer, values[layers == layer].mean()) for layer in np.unique(layers)]
            axes.plot(*np.array(means).T, color=colour, label=label)
        axes.axhline(CHANCE[name], color="grey", linewidth=0.8, linestyle=":")
        axes.set(title=name, xlabel="layer", ylim=(-0.03, 1.03))
    figure.axes[0].set_ylabel("score")
    figure.axes[0].legend(frameon=False, fontsize="small")
    figure.suptitle(title.replace("$", r"\$"), fontsize="medium")
    content = BytesIO()
    figure.savefig(content, format=path.suffix.lstrip(".").lower())
    return write_whole(path, content.getvalue())


def _sides(scores: Sequence[HeadScore]) -> list[tuple[str, str, list[tuple[int, float]]]]:
    own = [(one.layer, one.own.score) for one in scores if one.own.score is not None]
    swapped = [(one.layer, one.swapped.score) for one in scores if one.swapped and one.swapped.score is not None]
    return [("own description", "#1b6ca8", own), ("swapped", "#c0562b", swapped)]
