"""One report a model, as Markdown and as a single HTML page, from what the experiments left in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agent.output.markdown import document, escaped
from agent.output.pages import Picture
from eval.errors import MixedResults
from eval.faithfulness.report import figures
from eval.faithfulness.report.attention import class_points, keys_by_layer, read_attention, reading_panels
from eval.faithfulness.report.paper_figures import LLAMA_8B_R
from eval.faithfulness.report.reading import (
    read_causal,
    read_correlation,
    read_cost,
    read_descriptions,
    read_final_logits,
    read_null_heads,
    read_parts,
    read_settings,
)
from eval.faithfulness.report.text import table_text
from eval.faithfulness.running.templates import OTHER_PROMPTS, TEMPLATES, templates_text
from eval.faithfulness.static_scores import PAPER, RESIDUAL
from eval.results_folder import ResultsFolder
from maps_engine.errors import UserMistake
from maps_engine.files import write_whole
from maps_engine.model import Checkpoint

MOST_PANELS = 12
TITLE = "Are the scores read from weights what the heads do?"
TITLES = {
    "correlation": "Scores from weights against scores at inference",
    "multi-token": "Sources of several tokens",
    "causal": "Removing an operation's heads",
    "compare-settings": "The engine's choices compared",
    "final-logits": "Heads put into the running model",
    "descriptions": "The names of a run",
    "null-heads": "Names of heads that do nothing",
    "parts": "One part taken out of a head",
    "attention": "Where heads look",
}
NO_PAIRS = ("null-heads", "attention")


@dataclass(frozen=True)
class Section:
    """One experiment: sentences, table (both Markdown), figures."""

    title: str
    sentences: tuple[str, ...]
    table: str
    pictures: tuple[Picture, ...]


def write_report(folder: ResultsFolder, checkpoint: Checkpoint) -> list[Path]:
    """report.md, report.html and figures/*.svg. Raises UserMistake (nothing there), MixedResults (other model)."""
    sections = [section for kind in TITLES if (section := _section(folder, checkpoint, kind)) is not None]
    if not sections:
        raise UserMistake(
            "no results to report on",
            got=f"none of {', '.join(TITLES)} in {folder.path}",
            next_step="Run `headscribe check correlation` with the same --out first.",
        )
    pictures = {_address(one): one for section in sections for one in section.pictures}
    text = _markdown(_intro(checkpoint), sections)
    files = {address: one.svg for address, one in pictures.items()}
    files |= {"report.md": text.encode(), "report.html": document(TITLE, text, pictures).encode()}
    return [write_whole(folder.path / name, content, parents=True) for name, content in files.items()]


def _address(picture: Picture) -> str:
    return f"figures/{picture.file_name}"


def _intro(checkpoint: Checkpoint) -> list[str]:
    shape = checkpoint.weights.shape
    return [
        f"Model {escaped(checkpoint.name)} ({checkpoint.weights.family}, {shape.n_layers} layers of {shape.n_heads} "
        f"heads, {shape.n_value_heads} value heads a layer), checkpoint {checkpoint.fingerprint[:12]}.",
        "Without context, the last position's attention is 1 on the source and every other activation is as in the "
        "clean run.",
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
        "final-logits": read_final_logits,
        "descriptions": read_descriptions,
        "null-heads": read_null_heads,
        "parts": read_parts,
        "attention": read_attention,
    }
    notes = [f"{_limit(kind, result)}Running model in {result['dtype']}.", read_cost(result)]
    if kind not in OTHER_PROMPTS:  # results of earlier versions, which had the paper's alone, do not say them
        notes.insert(0, f"Templates, {escaped(templates_text(result.get('templates', TEMPLATES)))}.")
    return Section(
        TITLES[kind], (*readers[kind](result), *notes), table_text(kind, result), tuple(_pictures(folder, kind, result))
    )


def _limit(kind: str, result: Any) -> str:
    """How many pairs ran, as a sentence; nothing where there are none."""
    if kind in NO_PAIRS:
        return ""
    whose = "a head" if kind == "descriptions" else "an operation"
    return "All pairs. " if result["max_pairs"] is None else f"At most {result['max_pairs']} pairs {whose}. "


def _pictures(folder: ResultsFolder, kind: str, result: Any) -> list[Picture]:
    if kind == "causal" and result["relations"]:
        caption = "Accuracy with heads zeroed, 95 % intervals over prompts; control tasks at the last point."
        return [Picture("ablation-curves", figures.ablation_curves(result["relations"]), caption)]
    if kind == "compare-settings" and result["settings"]:
        caption = "Mean correlation over operations under each of the engine's settings."
        return [Picture("settings", figures.setting_bars(result["settings"]), caption), *_by_layer(result["settings"])]
    if kind == "attention":
        return _attention(result)
    panels = _panels(folder, result) if kind == "correlation" else {}
    if not panels:
        return []
    return [Picture("static-dynamic", figures.scatter_grid(panels), "Every point is a head.")]


def _attention(result: Any) -> list[Picture]:
    lines = figures.layer_lines(keys_by_layer(result), up="ρ over keys", legend="upper right")
    read, real = class_points(result)
    classes = [figures.class_scatter(read, real)] if read else []
    return [
        *(Picture("attention-classes", one, "Every point is a class that a head attends to.") for one in classes),
        Picture("attention-heads", figures.reading_scatter(reading_panels(result)), "Every point is a head."),
        Picture("attention-keys", lines, "Order of the keys of a query, mean over the heads of one layer."),
    ]


def _by_layer(rows: Sequence[Any]) -> list[Picture]:
    """The paper's setting and `residual` layer by layer, as far as they were compared."""
    shown = [row for name in (PAPER.name, RESIDUAL.name) for row in rows if row["setting"] == name]
    shown = [row for row in shown if any(r is not None for r in row.get("by_layer", ()))]
    if not shown:
        return []
    caption = "Correlation over operations and the heads of one layer together."
    return [Picture("layers", figures.layer_lines(shown), caption)]


def _panels(folder: ResultsFolder, result: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor, float | None]]:
    """The paper's operations with printed r first, then others, as far as scores are stored."""
    static = folder.stored(result["static_scores"]) if "static_scores" in result else None  # earlier versions: not told
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


def _markdown(intro: Sequence[str], sections: Sequence[Section]) -> str:
    parts = [f"# {TITLE}", *intro]
    for section in sections:
        parts += [f"## {section.title}", *section.sentences]
        parts += [f"![{one.caption}]({_address(one)})" for one in section.pictures]
        parts.append(section.table)
    return "\n\n".join(parts) + "\n"
