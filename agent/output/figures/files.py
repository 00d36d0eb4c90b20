"""Figures of relation scores: a heatmap an operation, an overview, operations per head. PNG or SVG.

They stand alone, on white paper, and are the same file for the same scores.
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from agent.output.figures.heatmaps import operation_heatmap
from agent.output.figures.overview import operations_by_layer, operations_per_head
from agent.output.figures.style import DPI
from maps_engine.files import file_errors, whole_file
from maps_engine.scores.head_structure import Findings
from maps_engine.scores.table import ModelScores

__all__ = ["operation_heatmap", "operations_by_layer", "operations_per_head", "save_figure", "write_figures"]


def write_figures(scores: ModelScores, found: Findings, folder: Path, *, form: str = "png") -> list[Path]:
    """`overview`, `operations-per-head` and one heatmap for every scored operation; returns the paths.

    Raises FileNotWritten.
    """
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not scores.scored:
        return []
    written = [
        save_figure(operations_by_layer(scores, found), folder / f"overview.{form}"),
        save_figure(operations_per_head(scores, found), folder / f"operations-per-head.{form}"),
    ]
    for one in scores.scored:
        figure = operation_heatmap(scores, one, tau=found.tau)
        written.append(save_figure(figure, folder / f"heatmap-{file_name(one.name)}.{form}"))
    return written


def file_name(name: str) -> str:
    """A name that is safe as part of a file name."""
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:100] or "operation"


def save_figure(figure: Figure, path: Path) -> Path:
    """The figure as a file, in the format of its name; returns the path. Raises FileNotWritten."""
    # ids in SVG from the content, not random
    with whole_file(path) as whole, mpl.rc_context({"svg.hashsalt": "headscribe"}):
        figure.savefig(whole, dpi=DPI, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path
