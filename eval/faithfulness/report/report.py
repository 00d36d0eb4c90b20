"""One report a model, as Markdown and as a single HTML page, from what the experiments left in a folder."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch

from eval.errors import MixedResults
from eval.faithfulness.report import figures
from eval.faithfulness.report.paper_figures import LLAMA_8B_R
from eval.faithfulness.report.reading import read_causal, read_correlation, read_cost, read_settings
from eval.faithfulness.report.text import table_text
from eval.faithfulness.running.templates import MARK, TEMPLATES
from eval.faithfulness.static_scores import PAPER
from eval.results_folder import ResultsFolder, write_whole
from maps_engine.errors import UserMistake
from maps_engine.model import Checkpoint

MOST_PANELS = 12
TITLES = {
    "correlation": "Scores from weights against scores at inference",
    "multi-token": "Sources of several tokens",
    "causal": "Removing an operation's heads",
    "compare-settings": "The engine's choices compared",
}


@dataclass(frozen=True)
class Figure:
    """A figure of the report and what stands below it."""

    name: str
    svg: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """One experiment: sentences, table, figures."""

    title: str
    sentences: tuple[str, ...]
    table: str
    figures: tuple[Figure, ...]


def write_report(folder: ResultsFolder, checkpoint: Checkpoint) -> list[Path]:
    """report.md, report.html and figures/*.svg. Raises UserMistake (nothing there), MixedResults (other model)."""
    sections = [section for kind in TITLES if (section := _section(folder, checkpoint, kind)) is not None]
    if not sections:
        raise UserMistake(
            "no results to report on",
            got=f"none of {', '.join(TITLES)} in {folder.path}",
            next_step="Run check-faithfulness correlation with the same --out first.",
        )
    intro = _intro(checkpoint)
    shown = [figure for section in sections for figure in section.figures]
    written = [write_whole(folder.path / "figures" / f"{one.name}.svg", one.svg) for one in shown]
    written.append(write_whole(folder.path / "report.md", _markdown(intro, sections).encode()))
    written.append(write_whole(folder.path / "report.html", _html(intro, sections).encode()))
    return written


def _intro(checkpoint: Checkpoint) -> list[str]:
    shape = checkpoint.weights.shape
    templates = "; ".join(f"“{template.replace(MARK, ' X')}”" for template in TEMPLATES)
    return [
        f"Model {checkpoint.name} ({checkpoint.weights.family}, {shape.n_layers} layers of {shape.n_heads} heads, "
        f"{shape.n_value_heads} value heads a layer), checkpoint {checkpoint.fingerprint[:12]}.",
        f"Templates: {templates}. Without context, the last position's attention is 1 on the source and every other "
        "activation is as in the clean run.",
    ]


def _section(folder: ResultsFolder, checkpoint: Checkpoint, kind: str) -> Section | None:
    stored = folder.stored(kind)
    if stored is None:
        return None
    result = stored["result"]
    if result["fingerprint"] != checkpoint.fingerprint:
        raise MixedResults(
            f"the results in {folder.path} are of another checkpoint",
            got=result["fingerprint"],
            expected=checkpoint.fingerprint,
            next_step=f"Give --model {result['model']}, or another --out.",
        )
    readers: dict[str, Callable[[Any], list[str]]] = {
        "correlation": read_correlation,
        "multi-token": lambda one: read_correlation(one, several_tokens=True),
        "causal": read_causal,
        "compare-settings": read_settings,
    }
    limit = "all pairs" if result["max_pairs"] is None else f"at most {result['max_pairs']} pairs an operation"
    notes = [f"{limit.capitalize()}; running model in {result['dtype']}.", read_cost(result)]
    return Section(
        TITLES[kind], (*readers[kind](result), *notes), table_text(kind, result), tuple(_figures(folder, kind, result))
    )


def _figures(folder: ResultsFolder, kind: str, result: Any) -> list[Figure]:
    if kind == "causal" and result["relations"]:
        caption = "Accuracy with heads zeroed, 95 % intervals over prompts; control tasks at the last point."
        return [Figure("ablation-curves", figures.ablation_curves(result["relations"]), caption)]
    if kind == "compare-settings" and result["settings"]:
        caption = "Mean correlation over operations under each of the engine's settings."
        return [Figure("settings", figures.setting_bars(result["settings"]), caption)]
    panels = _panels(folder, result) if kind == "correlation" else {}
    if not panels:
        return []
    return [Figure("static-dynamic", figures.scatter_grid(panels), "Every point is a head.")]


def _panels(folder: ResultsFolder, result: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor, float | None]]:
    """The paper's operations with printed r first, then others, as far as scores are stored."""
    static = folder.stored(f"static/{PAPER.name}") if result["setting"] == PAPER.name else None
    if static is None:
        return {}
    r = {row["name"]: row["without_context"]["r"] for row in result["relations"]}
    order = sorted(r, key=lambda name: (name not in LLAMA_8B_R, -(r[name] or 0.0)))
    panels = {}
    for name in order[:MOST_PANELS]:
        dynamic = folder.stored(f"dynamic/{name}")
        if dynamic is not None and name in static["result"]:
            found = dynamic["result"]["plain"]["without_context"]["promotion"]
            panels[name] = (torch.tensor(static["result"][name]["promotion"]), torch.tensor(found), r[name])
    return panels


def _markdown(intro: list[str], sections: list[Section]) -> str:
    parts = ["# Are the scores read from weights what the heads do?", *intro]
    for section in sections:
        parts += [f"## {section.title}", *section.sentences]
        parts += [f"![{figure.caption}](figures/{figure.name}.svg)" for figure in section.figures]
        parts.append(section.table)
    return "\n\n".join(parts) + "\n"


_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #8a94a355; padding: .25rem .55rem; text-align: right; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; } figure { margin: 1rem 0; } img { max-width: 100%; background: #fff; }
figcaption { color: #6b7583; }
"""


def _html(intro: list[str], sections: list[Section]) -> str:
    parts = [f"<p>{escape(line)}</p>" for line in intro]
    for section in sections:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        parts += [f"<p>{escape(line)}</p>" for line in section.sentences]
        parts += [_html_figure(figure) for figure in section.figures]
        parts.append(_html_table(section.table))
    title = "Are the scores read from weights what the heads do?"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )


def _html_figure(figure: Figure) -> str:
    data = base64.b64encode(figure.svg).decode()
    caption = escape(figure.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _html_table(markdown: str) -> str:
    """The Markdown tables that `report_text.grid` makes, as HTML; other lines as paragraphs."""
    rows, rest = [], []
    for line in markdown.splitlines():
        if not line.startswith("|"):
            rest.append(line)
        elif not line.startswith("|---"):
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    head, *body = [[escape(cell).replace("**", "") for cell in row] for row in rows]
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body)
    after = "".join(f"<p>{escape(line)}</p>" for line in rest if line.strip())
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>{after}'
