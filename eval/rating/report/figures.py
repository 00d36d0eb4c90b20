"""Figures of a study: bars of rates with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from agent.output.figures.style import BLUE, INK, ORANGE, SOFT, drawing, figure_bytes, plain, step_of
from eval.statistics.intervals import Estimate

COLOURS = (BLUE, ORANGE)  # apart for every kind of colour vision
MOST_LABELS = 40  # on the axis; of more, every second, fifth, … is named


@dataclass(frozen=True)
class Series:
    """One colour of bars; `estimates` are rates between 0 and 1."""

    name: str
    estimates: Sequence[Estimate]


def bar_chart(labels: Sequence[str], series: Sequence[Series], *, axis: str) -> bytes:
    """An SVG of grouped bars with intervals, a group for each label (may be lines); a dash where there is no rate."""
    with drawing():
        figure = Figure(figsize=(max(3.6, 1.0 + 0.3 * len(labels)), 2.9), layout="constrained")
        axes = figure.add_subplot()
        width = 0.8 / len(series)
        for place, (one, colour) in enumerate(zip(series, COLOURS, strict=False)):
            shift = (place - (len(series) - 1) / 2) * width
            _bars(axes, one, shift, width, colour)
        axes.set(xlim=(-0.6, len(labels) - 0.4), ylim=(0, 1))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis="y")
        step = step_of(len(labels), MOST_LABELS)
        axes.set_xticks(range(0, len(labels), step), ["\n".join(map(plain, one.split("\n"))) for one in labels[::step]])
        axes.set_xlabel(axis)
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=len(series))
        return figure_bytes(figure)


def _bars(axes: Axes, one: Series, shift: float, width: float, colour: str) -> None:
    places = [place + shift for place in range(len(one.estimates))]
    heights = [estimate.value or 0.0 for estimate in one.estimates]
    axes.bar(places, heights, width=0.94 * width, color=colour, label=one.name)
    for x, estimate in zip(places, one.estimates, strict=True):
        if estimate.value is None:
            axes.text(x, 0.01, "–", ha="center", color=SOFT)
        elif estimate.low is not None and estimate.high is not None:
            axes.vlines(x, estimate.low, estimate.high, color=INK, linewidth=1.2)
