"""Bar charts with intervals as plain SVG: no script, no style attribute, readable in light and dark.

Colours come from classes when the page has a style sheet (`figure-bar` …) and from the attributes otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from eval.statistics.intervals import Estimate

LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 40
HEIGHT, BAR, GAP = 240, 26, 14


@dataclass(frozen=True)
class Series:
    """One colour of bars; `estimates` are rates between 0 and 1."""

    name: str
    estimates: Sequence[Estimate]


_FILLS = ("#2f6fb0", "#d98a1f")  # blue and orange: apart for every kind of colour vision


def bar_chart(title: str, labels: Sequence[str], series: Sequence[Series], *, axis: str) -> str:
    """An SVG of grouped bars with 95 % intervals; the numbers are in its title elements too."""
    bar = BAR / len(series)
    width = LEFT + RIGHT + len(labels) * (BAR + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" '
        f'height="{HEIGHT}" role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" '
        'font-size="11" class="figure">'
    ]
    for step in range(0, 101, 25):
        y = _y(step / 100)
        parts.append(
            f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y}" y2="{y}" stroke="#8a94a3" '
            'stroke-opacity="0.35" class="figure-grid"/>'
        )
        parts.append(_text(LEFT - 6, y + 4, f"{step} %", "end"))
    for place, label in enumerate(labels):
        x = LEFT + GAP + place * (BAR + GAP)
        for number, one in enumerate(series):
            parts.append(_bar(x + number * bar, bar, one.estimates[place], f"{one.name}, {label}", number))
        parts.append(_text(x + BAR / 2, HEIGHT - BOTTOM + 16, label[:9], "middle"))
    parts.append(_text(LEFT + GAP, HEIGHT - 6, f"{axis}: " + ", ".join(s.name for s in series), "start"))
    return "".join(parts) + "</svg>"


def _y(share: float) -> float:
    return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 2)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#6b7583" class="figure-text">{escape(text)}</text>'
    )


def _bar(x: float, width: float, estimate: Estimate, name: str, number: int) -> str:
    if estimate.value is None:
        return f"<g><title>{escape(name)}: {escape(estimate.text())}</title></g>"
    top, bottom = _y(estimate.value), _y(0)
    middle = x + width / 2
    whisker = ""
    if estimate.low is not None and estimate.high is not None:
        whisker = (
            f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{_y(estimate.low)}" y2="{_y(estimate.high)}" '
            'stroke="#3a424d" stroke-width="1.5" class="figure-whisker"/>'
        )
    return (
        f"<g><title>{escape(name)}: {escape(estimate.text())} (n = {estimate.n})</title>"
        f'<rect x="{x:.1f}" y="{top}" width="{max(width - 1, 2):.1f}" height="{max(bottom - top, 0.5):.2f}" '
        f'rx="1.5" fill="{_FILLS[number % 2]}" class="figure-bar-{number % 2}"/>{whisker}</g>'
    )
