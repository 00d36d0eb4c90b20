"""One self-contained HTML report of relation scores: works offline, light and dark, on a phone.

Heatmaps are pictures of one pixel a head (a few hundred bytes each) inside inline SVG, their zero transparent, so that
they stand on either background. Without scripts everything is there but the filter and the read-out of single heads.
"""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from agent.output.figures.style import step_of
from agent.output.terminal.relation_page import sharing_sentence
from maps_engine.checkpoints.token_spelling import visible
from maps_engine.scores.summary import OperationSummary, by_category, readable_p
from maps_engine.scores.table_json import versions

if TYPE_CHECKING:
    from torch import Tensor

    from maps_engine.scores.result import RelationResult

PROMOTING, SUPPRESSING = (13, 110, 160), (196, 74, 24)


@dataclass(frozen=True)
class Heatmap:
    """One side of one operation: a picture, its bytes for the read-out, and its best head."""

    title: str
    picture: str  # data URI of a PNG, layers upwards
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
    """The page as one string; nothing in it asks the network for anything."""
    page = files("agent.output") / "relation_report_page"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(p=readable_p, shown=visible)
    template = environment.from_string((page / "report.html.j2").read_text("utf-8"))
    summaries = result.summaries(top)
    return template.render(
        css=Markup((page / "report.css").read_text("utf-8")),
        js=Markup((page / "report.js").read_text("utf-8")),
        scores=result.scores,
        found=result.found,
        categories=[(name, rows) for name, rows in by_category(summaries)],
        too_few=[one for one in summaries if not one.best],
        maps=_all_maps(result),
        sharing=sharing_sentence(result.found),
        provenance=_provenance(result),
        shares=result.choice.evidence if result.choice is not None else (),
        implements=lambda one: _implements(one, result.found.tau),
        bars=_bars(result.found.operations_per_head),
    )


def _provenance(result: RelationResult) -> list[tuple[str, Any]]:
    scores, settings = result.scores, result.settings
    made = ", ".join(f"{name} {value}" for name, value in versions().items())
    return [
        ("model", scores.model),
        ("fingerprint", scores.fingerprint),
        ("source representation", f"{scores.source} ({', '.join(scores.sources)})"),
        ("list length k", settings.k or "each operation's own"),
        ("fewest pairs", settings.min_pairs),
        ("targets", settings.target),
        ("threshold", settings.threshold),
        ("null", "targets dealt to other sources of the operation; Fisher's exact test"),
        ("made with", made),
        ("written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]


def _implements(one: OperationSummary, tau: float) -> str:
    heads = "head" if one.n_heads == 1 else "heads"
    return f"{one.n_heads} {heads} from {tau:g} on, {one.n_suppressors} suppressing"


def _all_maps(result: RelationResult) -> dict[str, tuple[Heatmap, Heatmap]]:
    maps = {}
    for one in result.scores.scored:
        if one.score is not None and one.suppression is not None:
            sides = (("promotes", one.score, PROMOTING), ("suppresses", one.suppression, SUPPRESSING))
            first, second = (_heatmap(title, table, colour) for title, table, colour in sides)
            maps[one.name] = (first, second)
    return maps


def _heatmap(title: str, table: Tensor, colour: tuple[int, int, int]) -> Heatmap:
    layers, heads = table.shape
    levels = bytes(round(255 * x) for row in table.tolist() for x in row)
    flipped = b"".join(b"\0" + levels[i * heads : (i + 1) * heads] for i in reversed(range(layers)))
    best = divmod(int(table.argmax()), heads) if float(table.max()) > 0 else None
    ticks = tuple(range(0, layers, step_of(layers, 8)))
    picture = f"data:image/png;base64,{base64.b64encode(png(flipped, heads, layers, colour)).decode()}"
    return Heatmap(title, picture, base64.b64encode(levels).decode(), layers, heads, best, ticks)


def png(rows: bytes, width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """A PNG with 256 shades of one colour by opacity; `rows` are filter bytes and one byte a pixel."""
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = (("IHDR", header), *_palette(colour), ("IDAT", zlib.compress(rows, 9)), ("IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)


@cache
def _palette(colour: tuple[int, int, int]) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    return ("PLTE", bytes(colour) * 256), ("tRNS", bytes(range(256)))


def _chunk(name: str, data: bytes) -> bytes:
    body = name.encode() + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _bars(counts: tuple[int, ...]) -> list[tuple[int, int, float]]:
    """(operations, heads, share of the tallest bar) from one operation on."""
    tallest = max([*counts[1:], 1])
    return [(n, heads, heads / tallest) for n, heads in enumerate(counts) if n]
