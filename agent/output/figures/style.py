"""What all figures share: colours, sizes, ticks, files. Colours tell things apart for colour-blind readers too.

Figures are drawn on canvases of their own: no pyplot, no display.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

DPI: Final = 160
INK: Final = "#1f2430"
SOFT: Final = "#6b7280"
LINE: Final = "#d9dce3"
PAPER: Final = "#ffffff"
BLUE, ORANGE, GREY = "#2f6fb0", "#d98a1f", "#8a94a3"  # of data: readable on light and on dark paper
_DARK: Final = {INK: "#e6eaf0", SOFT: "#a3aebc", LINE: "#3a4552", PAPER: "#1a2029"}
_STYLE: Final[Mapping[str, object]] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "headscribe",  # element ids from the content: the same numbers give the same file
}
_drawing = threading.RLock()
CATEGORY_COLOURS: Final = {
    "algorithmic": "#0072b2",
    "knowledge": "#d55e00",
    "linguistic": "#009e73",
    "translation": "#cc79a7",
}
_OTHERS: Final = ("#56b4e9", "#e69f00", "#5c5c5c", "#b8a800")
FADE: Final = 0.12


@contextmanager
def drawing() -> Iterator[None]:
    """The style of figures in reports, while one is made and saved.

    One at a time: matplotlib's settings belong to the process, and the web app draws in several threads.
    """
    with _drawing, mpl.rc_context(dict(_STYLE)):
        yield


def figure_bytes(figure: Figure, form: str = "svg") -> bytes:
    """The figure as a file of this format; an SVG follows the reader's light or dark. Call inside `drawing()`."""
    content = BytesIO()
    figure.savefig(content, format=form, dpi=DPI, metadata={"Date": None} if form == "svg" else None)
    return _follows_dark(content.getvalue()) if form == "svg" else content.getvalue()


def _follows_dark(svg: bytes) -> bytes:
    """`svg` with a rule that exchanges the style's light colours where the reader prefers dark."""
    rules = "".join(
        f'[style*="{part}: {light}"]{{{part}:{dark}!important}}'
        for light, dark in _DARK.items()
        for part in ("fill", "stroke")
    )
    start, mark, rest = svg.partition(b"<defs>")
    return start + f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>".encode() + mark + rest


def score_map() -> ListedColormap:
    """magma_r, perceptually uniform, its lightest end faded to white so that heads that do nothing stay paper."""
    at = np.linspace(0, 1, 256)
    white = np.clip(1 - at / FADE, 0, 1)[:, None]
    return ListedColormap(colormaps["magma_r"](at) * (1 - white) + white, name="scores")


def colour_of(category: str, others: list[str]) -> str:
    """The category's colour; categories that are not the paper's take the others in turn."""
    if category in CATEGORY_COLOURS:
        return CATEGORY_COLOURS[category]
    return _OTHERS[others.index(category) % len(_OTHERS)]


def plain(text: str, width: int = 60) -> str:
    """Text that matplotlib draws as it stands: no mathematics, no control characters, not too long."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "·", text).replace("$", r"\$")
    return text if len(text) <= width else text[: width - 1] + "…"


def step_of(size: int, room: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, … that leaves at most `room` ticks."""
    for power in range(6):
        for base in (1, 2, 5):
            if size / (base * 10**power) <= room:
                return base * 10**power
    return size


def count_ticks(axes: Axes, size: int, *, axis: str, room: int) -> None:
    """Ticks at 0, step, 2 step, …, size - 1 counted from 0."""
    step = step_of(size, room)
    (axes.xaxis if axis == "x" else axes.yaxis).set_major_locator(FixedLocator(list(range(0, size, step))))


def quiet(axes: Axes) -> None:
    """Leave out the upper and right side of the frame, and make axes and tick labels unobtrusive."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
    axes.tick_params(length=0, labelsize=8, colors=SOFT, pad=3)
