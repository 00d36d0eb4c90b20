"""Relation scores on a terminal: the best heads of every operation, then what the paper looks for in them."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maps_engine.checkpoints.token_spelling import visible
from maps_engine.scores.head_structure import Findings, Universality
from maps_engine.scores.summary import HeadScore, OperationSummary, by_category, readable_p
from maps_engine.scores.table import ModelScores

SHOWN_OPPONENTS = 8
HEADS_WIDTH = 13


def show_scores(
    console: Console,
    scores: ModelScores,
    summaries: tuple[OperationSummary, ...],
    found: Findings,
) -> None:
    """The whole page."""
    _header(console, scores, summaries, found.tau)
    for category, rows in by_category(summaries):
        console.print(_category_table(category, rows, found.tau))
        console.print()
    _list(console, "not scored", [(one.name, one.verdict) for one in summaries if not one.best])
    own = [(one.name, one.left_out) for one in summaries if one.own and one.left_out]
    _list(console, "own pairs left out", own)
    if scores.scored:
        _show_findings(console, scores, found)


def _list(console: Console, title: str, lines: list[tuple[str, str]]) -> None:
    """Operations and what is said of them, under a title; nothing where there are none."""
    if lines:
        console.print(_title(title))
        for name, text in lines:
            console.print(f"  {visible(name)}: {text}", markup=False, soft_wrap=True)
        console.print()


def _header(
    console: Console,
    scores: ModelScores,
    summaries: tuple[OperationSummary, ...],
    tau: float,
) -> None:
    n_scored = sum(bool(one.best) for one in summaries)
    heads = scores.n_layers * scores.n_heads
    console.print(
        f"{visible(scores.model)}: {scores.n_layers} layers x {scores.n_heads} heads"
        f" ({scores.n_value_heads} value heads), {n_scored} of {len(summaries)} operations scored",
        markup=False,
    )
    console.print(f"Heads read: {visible(scores.reading)}.", markup=False, soft_wrap=True)
    console.print(
        f"Heads are layer.head with their score; bold from {tau:g} on. p: against shuffled pairs, corrected for"
        f" {heads} heads.",
        soft_wrap=True,
    )
    console.print()


def _title(text: str) -> Text:
    return Text(text, style="bold underline")


def _category_table(category: str, rows: tuple[OperationSummary, ...], tau: float) -> Table:
    table = Table(
        box=None, padding=(0, 2, 0, 0), title=_title(visible(category)), title_justify="left", show_edge=False
    )
    table.add_column("operation", no_wrap=True, max_width=34, overflow="ellipsis")
    table.add_column("best heads", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("suppressor", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("pairs", justify="right", no_wrap=True)
    for one in rows:
        mark = " (first token)" if one.target == "first-token" else ""
        cells: list[str | Text] = [
            visible(one.name) + mark,
            _heads(one.best, tau),
            readable_p(one.best[0].p),
            _heads(one.suppressors[:1], tau),
            readable_p(one.suppressors[0].p),
        ]
        table.add_row(*(Text(c) if isinstance(c, str) else c for c in cells), Text(str(one.n_used)))
    return table


def _heads(heads: tuple[HeadScore, ...], tau: float) -> Text:
    line = Text()
    for one in heads:
        cell = f"{one.label} {one.score:.2f}"
        line.append(
            cell.ljust(HEADS_WIDTH if one is not heads[-1] else 0),
            style="bold" if one.score >= tau else "dim",
        )
    return line


def _show_findings(console: Console, scores: ModelScores, found: Findings) -> None:
    console.print()
    console.print(_title(f"share of heads that reach {found.tau:g}, by third of the layers"))
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("category")
    for name in ("lower", "middle", "upper", "all"):
        table.add_column(name, justify="right")
    for one in found.categories:
        cells = ["–" if math.isnan(share) else f"{share:.0%}" for share in (*one.by_third, one.share)]
        table.add_row(Text(visible(one.category)), *cells)
    console.print(table)
    console.print()
    console.print(_title("operations per head"))
    console.print(_per_head(found), soft_wrap=True)
    console.print()
    console.print(_title("heads that share a value head"))
    console.print(sharing_sentence(found), soft_wrap=True)
    if found.opponents:
        console.print()
        console.print(_title("promoter and suppressor of the same operation"))
        for pair in found.opponents[:SHOWN_OPPONENTS]:
            place = "same layer" if pair.same_layer else f"{abs(pair.promoter[0] - pair.suppressor[0])} layers apart"
            promoter, suppressor = ("{}.{}".format(*head) for head in (pair.promoter, pair.suppressor))
            console.print(
                f"  {visible(pair.relation)}: {promoter} {pair.promotion:.2f} against {suppressor}"
                f" {pair.suppression:.2f}, {place}",
                markup=False,
            )
        if len(found.opponents) > SHOWN_OPPONENTS:
            same = sum(pair.same_layer for pair in found.opponents)
            console.print(f"  … {len(found.opponents)} such operations, {same} with both in the same layer")


def _per_head(found: Findings) -> str:
    total = sum(found.operations_per_head)
    if not found.n_implementing:
        return f"None of {total} heads reaches {found.tau:g} in any operation."
    most = len(found.operations_per_head) - 1
    return (
        f"{found.n_implementing} of {total} heads implement at least one; those do {found.mean_operations:.1f}"
        f" on average, the busiest {most}."
    )


def sharing_sentence(found: Findings) -> str:
    """The value-head result in words."""
    one = found.sharing
    if one.note:
        return f"Not applicable: {one.note}."
    return (
        f"Overlap of their operations (mean Jaccard over {one.n_pairs} pairs of heads): {one.observed:.2f}; heads dealt"
        f" anew within their layers: {one.expected:.2f}; p = {readable_p(one.p)}."
    )


def show_comparison(
    console: Console, models: tuple[ModelScores, ModelScores], rows: tuple[Universality, ...], tau: float
) -> None:
    """Operations in two models, those that both have first."""
    names = [visible(one.model) for one in models]
    console.print(f"A {names[0]} ({models[0].reading})\nB {names[1]} ({models[1].reading})", markup=False)
    both = sum(row.in_both for row in rows)
    console.print(
        f"{both} of {len(rows)} operations scored in both have heads from {tau:g} on in both."
        " Depth: 0 first layer, 1 last.\n",
        soft_wrap=True,
    )
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("operation", "category", "A", "depth", "B", "depth", "in"):
        table.add_column(name, no_wrap=True, justify="right" if name == "depth" else "left")
    for row in rows:
        style = "" if row.in_both else "dim"
        cells = [visible(row.relation), visible(row.category)]
        for (layer, head), score, depth in zip(row.heads, row.scores, row.depths, strict=True):
            cells += [f"{layer}.{head} {score:.2f}", f"{depth:.2f}"]
        where = "both" if row.in_both else " ".join(n for n, s in zip("AB", row.scores, strict=True) if s >= tau) or "–"
        table.add_row(*(Text(cell) for cell in [*cells, where]), style=style)
    console.print(table)
