"""A study's numbers as Markdown (with figures beside it) or as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from agent.output.markdown import document, escaped, table
from agent.output.pages import Picture
from eval.rating.report.report import Row, StudyReport
from maps_engine.files import write_whole

REAL_AGAINST_SWAPPED, BY_LAYER = "real-against-swapped", "by-layer"  # names of the figures
_HEAD = (
    *("group", "descriptions plausible", "at least partly", "ratings plausible", "rows with a pattern"),
    *("descriptions", "ties"),
)


def figures(report: StudyReport) -> tuple[Picture, ...]:
    """Real against swapped descriptions; patterns and plausibility by layer."""
    from eval.rating.report.figures import Series, bar_chart  # matplotlib takes a second to import

    both = [report.overall.plausible.ratings, report.control.plausible.ratings]
    labels = [f"{name}\n{one.text()}" for name, one in zip(("real", "swapped"), both, strict=True)]
    chart = bar_chart(labels, [Series("plausible ratings", both)], axis="descriptions")
    charts = [Picture(REAL_AGAINST_SWAPPED, chart, "Share of ratings that call a description plausible")]
    if rows := report.by_layer:
        by_layer = [
            Series("a pattern is seen", [row.pattern.items for row in rows]),
            Series("description plausible", [row.plausible.items for row in rows]),
        ]
        chart = bar_chart([row.group for row in rows], by_layer, axis="layer")
        charts.append(
            Picture(
                BY_LAYER, chart, "Share of items with a pattern in the rows, and of plausible descriptions, by layer"
            )
        )
    return tuple(charts)


def as_markdown(report: StudyReport, *, linked: bool = True) -> str:
    """The report; `linked`: with links to its two figures, the files of `figures()` beside it."""
    parts = [f"# {escaped(report.name)}", "", *_facts(report), ""]
    parts += ["## Plausibility", "", *_table([report.overall, report.control]), ""]
    parts += [f"Real minus swapped descriptions: {report.gap.text()} (share of ratings).", ""]
    parts += [f"![real against swapped]({REAL_AGAINST_SWAPPED}.svg)", ""] if linked else []
    if report.by_layer:
        link = [f"![by layer]({BY_LAYER}.svg)", ""] if linked else []
        parts += ["## By layer", "", *link, *_table(report.by_layer), ""]
    parts += ["## By category", "", *_table(report.by_category), ""]
    parts += ["## By describer", "", *_table(report.by_describer), ""]
    parts += ["## Agreement between people", "", *_agreement(report), ""]
    if report.judges:
        parts += ["## Judges (programs), apart from people", "", *_judges(report), ""]
    parts += ["## How to read this", "", *_notes()]
    return "\n".join(parts) + "\n"


def _facts(r: StudyReport) -> list[str]:
    coverage = r.coverage.text() if r.coverage else "not known (heads come from elsewhere)"
    settled = ", ".join(f"{n} {verdict}" for verdict, n in r.adjudicated.items() if n) or "none"
    return [
        f"- study: {r.state}; content hash `{r.content_hash[:16] or 'none yet'}`; source: {escaped(r.source) or '-'}",
        f"- {r.n_descriptions} descriptions of {r.n_heads} heads and {r.n_controls} control items (swapped "
        f"descriptions), {r.k} raters each",
        f"- coverage: share of the run's heads that have a description: {coverage}",
        f"- {r.skipped} skips; {r.cannot} answers `cannot judge`, left out of rates; {r.late} late, not counted",
        f"- adjudicated by the lead: {settled}",
    ]


def _table(rows: Sequence[Row]) -> list[str]:
    return [table(_HEAD, [_cells(row) for row in rows], numbers=False)]


def _cells(row: Row) -> tuple[str, ...]:
    """The cells of one line, in the order of the table's head."""
    return (
        escaped(row.group),
        row.plausible.items.text(),
        row.at_least_partly.items.text(),
        row.plausible.ratings.text(),
        row.pattern.items.text(),
        str(row.plausible.items.n),
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
            f"  - kappa {escaped(a)} and {escaped(b)}: {kappa.text()} (n = {kappa.n})"
            for (a, b), kappa in found.kappa.items()
        ]
    return lines


def _judges(report: StudyReport) -> list[str]:
    rows = [
        (escaped(j.judge), *(part.items.text() for part in (j.plausible, j.partly, j.swapped)), j.same_as_people.text())
        for j in report.judges
    ]
    titles = ("judge", "descriptions plausible", "at least partly", "swapped plausible", "same verdict as people")
    return [table(titles, rows, numbers=False)]


def _notes() -> list[str]:
    return [
        "- Rates of descriptions and rows: majority of an item's raters, Wilson's 95 % interval; ties are left out "
        "and counted apart.",
        "- Rating rates and coefficients: 95 % bootstrap intervals that draw whole items.",
        "- An item is a description with its rows. Several descriptions of one head are several items.",
        "- Percent and AC1 can be high by prevalence alone; read them together with alpha.",
        "- Practice and attention items are in no rate. Swapped descriptions have a rate of their own.",
    ]


def as_html(report: StudyReport) -> str:
    """The Markdown report as one file that opens offline, with its figures inside."""
    pictures = {one.file_name: one for one in figures(report)}
    return document("Study report", as_markdown(report), pictures)


def write_report(report: StudyReport, folder: Path) -> list[Path]:
    """report.md, report.html and the figures, into `folder`; returns the files."""
    pictures = {one.file_name: one for one in figures(report)}
    text = as_markdown(report)
    files = {"report.md": text.encode(), "report.html": document("Study report", text, pictures).encode()}
    files |= {name: one.svg for name, one in pictures.items()}
    return [write_whole(folder / name, content, parents=True) for name, content in files.items()]


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
