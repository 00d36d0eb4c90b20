"""One self-contained HTML report of relation scores: works offline, light and dark, on a phone.

A heatmap is a picture of one pixel a head (a few hundred bytes) inside SVG rather than a drawn figure: some fifty
operations with two maps each stay a small file, the maps follow light and dark, and a pointer reads single heads out.
Without scripts everything is there but the filter and that read-out.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.image import imsave
from torch import Tensor

from agent.output.figures.style import step_of
from agent.output.pages import report_html
from agent.output.terminal.relation_page import sharing_sentence
from maps_engine.scores.result import RelationResult
from maps_engine.scores.summary import by_category, readable_p
from maps_engine.scores.table import ModelScores
from maps_engine.scores.table_json import versions

PROMOTING, SUPPRESSING = (13, 110, 160), (196, 74, 24)  # red, green, blue


@dataclass(frozen=True)
class Heatmap:
    """One side of one operation: a picture, its bytes for the read-out, and its best head."""

    title: str
    picture: str  # data address of a PNG, layers upwards
    bytes: str  # base64, one byte a head, layer by layer
    layers: int
    heads: int
    best: tuple[int, int] | None
    ticks: tuple[int, ...]

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a head in the drawing."""
        return max(12.0 if self.heads < 20 else 4.0, 110 / self.heads), 8.0 if self.layers < 50 else 4.0


def render_report(result: RelationResult, *, top: int) -> str:
    """The page as one string, with the `top` heads of every operation."""
    summaries = result.summaries(top)
    return report_html(
        "relations.html",
        script="relations.js",
        scores=result.scores,
        found=result.found,
        categories=[(name, rows) for name, rows in by_category(summaries)],
        too_few=[one for one in summaries if not one.best],
        maps=_all_maps(result.scores),
        sharing=sharing_sentence(result.found),
        provenance=_provenance(result),
        bars=_bars(result.found.operations_per_head),
        readable_p=readable_p,
    )


def _provenance(result: RelationResult) -> list[tuple[str, Any]]:
    scores, settings = result.scores, result.settings
    made = ", ".join(f"{name} {value}" for name, value in versions().items())
    return [
        ("model", scores.model),
        ("fingerprint", scores.fingerprint),
        ("source representation", scores.reading),
        ("list length k", settings.k or "each operation's own"),
        ("fewest pairs", settings.min_pairs),
        ("targets", settings.target),
        ("threshold", settings.threshold),
        ("null", "targets dealt to other sources of the operation; Fisher's exact test"),
        ("made with", made),
        ("written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]


def _all_maps(scores: ModelScores) -> dict[str, tuple[Heatmap, Heatmap]]:
    return {
        one.name: (
            _heatmap("promotes", one.score, PROMOTING),
            _heatmap("suppresses", one.suppression, SUPPRESSING),
        )
        for one in scores.scored
        if one.score is not None and one.suppression is not None
    }


def _heatmap(title: str, table: Tensor, colour: tuple[int, int, int]) -> Heatmap:
    layers, heads = table.shape
    levels = (255 * table.double().numpy()).round().astype(np.uint8)
    best = divmod(int(table.argmax()), heads) if float(table.max()) > 0 else None
    ticks = tuple(range(0, layers, step_of(layers, 8)))
    picture = f"data:image/png;base64,{base64.b64encode(score_picture(levels, colour)).decode()}"
    return Heatmap(title, picture, base64.b64encode(levels.tobytes()).decode(), layers, heads, best, ticks)


def score_picture(levels: np.ndarray, colour: tuple[int, int, int]) -> bytes:
    """A PNG of one pixel a head, the last layer on top: `colour`, as opaque as `levels` (L, H, uint8) says.

    Where a head scores 0 the picture is transparent, so that it stands on a light and on a dark page.
    """
    pixels = np.empty((*levels.shape, 4), np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = levels[::-1]
    content = BytesIO()
    imsave(content, pixels, format="png")
    return content.getvalue()


def _bars(counts: tuple[int, ...]) -> list[tuple[int, int, float]]:
    """(operations, heads, share of the tallest bar) from one operation on."""
    tallest = max([*counts[1:], 1])
    return [(n, heads, heads / tallest) for n, heads in enumerate(counts) if n]
