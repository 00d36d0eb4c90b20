"""A study's numbers as Markdown (with figures beside it) or as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from eval.rating.report.figures import Series, bar_chart
from eval.rating.report.report import Row, StudyReport
from maps_engine.files import write_whole

_HEAD = ("group", "heads plausible", "at least partly", "ratings plausible", "heads with a pattern", "heads", "ties")


def figures(report: StudyReport) -> dict[str, str]:
    """File name -> SVG: patterns and plausibility by layer; real against swapped."""
    rows = report.by_layer
    by_layer = [
        Series("a pattern is seen", [row.pattern.heads for row in rows]),
        Series("description plausible", [row.plausible.heads for row in rows]),
    ]
    both = [report.overall.plausible.ratings, report.control.plausible.ratings]
    charts = {
        "real-against-swapped.svg": bar_chart(
            "Share of ratings that call a description plausible",
            ["real", "swapped"],
            [Series("plausible ratings", both)],
            axis="descriptions",
        )
    }
    if rows:
        labels = [row.group for row in rows]
        charts["by-layer.svg"] = bar_chart("Heads by layer", labels, by_layer, axis="layer")
    return charts


def as_markdown(report: StudyReport, *, linked: bool = True) -> str:
    """The report; `linked`: with links to its two figures, the files of `figures()` beside it."""
    parts = [f"# {_plain(report.name)}", "", *_facts(report), ""]
    parts += ["## Plausibility", "", *_table([report.overall, report.control]), ""]
    parts += [f"Real minus swapped descriptions: {report.gap.text()} (share of ratings).", ""]
    parts += ["![real against swapped](real-against-swapped.svg)", ""] if linked else []
    if report.by_layer:
        link = ["![by layer](by-layer.svg)", ""] if linked else []
        parts += ["## By layer", "", *link, *_table(report.by_layer), ""]
    parts += ["## By category", "", *_table(report.by_category), ""]
    parts += ["## By describer", "", *_table(report.by_describer), ""]
    parts += ["## Agreement between people", "", *_agreement(report), ""]
    if report.judges:
        parts += ["## Judges (programs), apart from people", "", *_judges(report), ""]
    parts += ["## How to read this", "", *_notes()]
    return "\n".join(parts) + "\n"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|").replace("[", "\\[")


def _facts(r: StudyReport) -> list[str]:
    coverage = r.coverage.text() if r.coverage else "not known (heads come from elsewhere)"
    settled = ", ".join(f"{n} {verdict}" for verdict, n in r.adjudicated.items() if n) or "none"
    return [
        f"- study: {r.state}; content hash `{r.content_hash[:16] or 'none yet'}`; source: {_plain(r.source) or '-'}",
        f"- {r.n_heads} heads and {r.n_controls} control items (swapped descriptions), {r.k} raters each",
        f"- coverage: share of the run's heads that have a description: {coverage}",
        f"- {r.skipped} skips; {r.cannot} answers `cannot judge`, left out of rates; {r.late} late, not counted",
        f"- adjudicated by the lead: {settled}",
    ]


def _table(rows: Sequence[Row]) -> list[str]:
    lines = ["| " + " | ".join(_HEAD) + " |", "|---" * len(_HEAD) + "|"]
    return lines + ["| " + " | ".join(cells) + " |" for cells in map(row_cells, rows)]


def row_cells(row: Row) -> tuple[str, ...]:
    """The cells of one line, in the order of the table's head."""
    return (
        _plain(row.group),
        row.plausible.heads.text(),
        row.at_least_partly.heads.text(),
        row.plausible.ratings.text(),
        row.pattern.heads.text(),
        str(row.plausible.heads.n),
        str(row.plausible.ties),
    )


def _agreement(report: StudyReport) -> list[str]:
    lines = []
    for question, found in report.agreement.items():
        if found is None:
            lines.append(f"- {question}: no ratings yet")
            continue
        lines.append(f"- {question}: {found.text()}")
        lines += [
            f"  - kappa {_plain(a)} and {_plain(b)}: {kappa.text()} (n = {kappa.n})"
            for (a, b), kappa in found.kappa.items()
        ]
    return lines


def _judges(report: StudyReport) -> list[str]:
    lines = ["| judge | heads plausible | same verdict as people |", "|---|---|---|"]
    return lines + [
        f"| {_plain(j.judge)} | {j.plausible.heads.text()} | {j.same_as_people.text()} |" for j in report.judges
    ]


def _notes() -> list[str]:
    return [
        "- Head rates: majority of a head's raters, Wilson's 95 % interval; ties are left out and counted apart.",
        "- Rating rates and coefficients: 95 % bootstrap intervals that draw whole heads.",
        "- Percent and AC1 can be high by prevalence alone; read them together with alpha.",
        "- Practice and attention items are in no rate. Swapped descriptions have a rate of their own.",
    ]


def as_html(report: StudyReport) -> str:
    """One file that opens offline: the Markdown's content with the figures inside, light and dark."""
    from markdown_it import MarkdownIt

    charts = figures(report)
    text = as_markdown(report)
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    for name, svg in charts.items():
        alt = name.removesuffix(".svg").replace("-", " ")
        body = body.replace(f'<img src="{name}" alt="{alt}" />', svg)
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Study report</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def write_report(report: StudyReport, folder: Path) -> list[Path]:
    """report.md, report.html and the figures, into `folder`; returns the files."""
    texts = {"report.md": as_markdown(report), "report.html": as_html(report)} | figures(report)
    return [write_whole(folder / name, text, parents=True) for name, text in texts.items()]


def report_json(report: StudyReport) -> dict[str, Any]:
    """The numbers as plain JSON values; kappa by `rater, rater`."""

    def plain(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        if isinstance(value, Mapping):
            names = {k: ", ".join(k) if isinstance(k, tuple) else str(k) for k in value}
            return {names[k]: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return {f.name: plain(getattr(report, f.name)) for f in fields(report)}
