"""The terminal page of one described head."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.output.console import inert, token_text
from agent.output.terminal.attention_part import attended, attends_line
from agent.output.terminal.tables import plain_table, tokens
from agent.output.terminal.transcript import attempts_part
from agent.results.account import written
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Retrieved
from agent.results.outcomes import PairTest, RowTest, TestResult
from agent.results.reports import HeadReport
from maps_engine.results import HeadMapping, MappingRow

SUPPRESSED_ROWS = 10
EXAMPLES = 3  # of an operation
PART_WORDS = 8
STATUS_STYLE = {"ok": "bold green", "unclear": "bold yellow", "failed": "bold red"}
VERDICT_STYLE = {"supported": "green", "weak": "yellow", "contradicted": "red", "not testable": "dim"}


def show_page(out: Console, report: HeadReport, *, suppressed: bool = True) -> None:
    """Print everything that is known of the head, the description first."""
    mapping = report.mapping
    out.print(_title(mapping))
    out.print()
    out.print(_description(report.description, attends_line(mapping.attention)))
    out.print(_test(report.test))
    if report.trace.attempts:
        out.print(attempts_part(report.trace, told=[name for one in report.operations for name in one.names]))
    out.print(_retrieved(report.retrieved))
    out.print()
    if len(report.operations) > 1 or any(one.also for one in report.operations):
        out.print(_operations(report))
    if mapping.parts:
        out.print(_parts(report))
    if report.test.tested_rows:
        out.print(_tested(report.test))
    if mapping.attention:
        out.print(attended(mapping.attention, mapping.dimmed))
    if mapping.constant:
        out.print(_constant(mapping))
        out.print()
    faint = mapping.dimmed
    out.print(_rows(f"{len(mapping.rows)} most salient tokens and what they are mapped to", mapping.rows, faint))
    if mapping.same_tokens:
        out.print(Text.assemble("The test reads: ", inert(mapping.same_tokens.reading, "bold")))
        out.print(_rows("The same tokens, read so", mapping.same_tokens.rows, faint))
    if suppressed and mapping.suppressed_rows:
        shown = mapping.suppressed_rows[:SUPPRESSED_ROWS]
        out.print(_rows(f"What the first {len(shown)} of them are kept from (most suppressed)", shown, faint))
    if faint:
        out.print(
            Text("Dimmed tokens are undertrained: training hardly ever saw them, and they are no evidence.", "dim")
        )
    out.print(_footer(report))


def _title(mapping: HeadMapping) -> RenderableType:
    head = Text.assemble(
        ("Head ", "bold"), (f"{mapping.layer}.{mapping.head}", "bold cyan"), " of ", inert(mapping.model, "bold")
    )
    source = Text.assemble("source: ", inert(mapping.settings.reading, "bold"))
    return Group(head, source)


def _description(description: HeadDescription, attends: Text) -> RenderableType:
    """What the head attends to stands before what it writes there."""
    first = Text.assemble((description.status, STATUS_STYLE[description.status]), "  ", inert(description.operation))
    first.append("  (", "dim")
    if description.status == "ok":
        first.append(f"confidence {description.confidence:.2f}, ", "dim")
    first.append_text(inert(description.describer, "dim")).append(")", "dim")
    lines = [first, attends]
    for name, text in (
        ("inputs", description.input_strings),
        ("pattern", written(description.observed_pattern) if description.status == "ok" else ""),
        ("evidence", description.reasoning),
        ("reason", description.reason),
    ):
        if text:
            lines.append(Text.assemble((f"  {name:<9}", "dim"), inert(text)))
    return Group(*lines)


def _test(test: TestResult) -> RenderableType:
    line = Text.assemble(("  test     ", "dim"), (test.verdict, VERDICT_STYLE[test.verdict]))
    if test.reason:
        line.append_text(inert(f": {test.reason}"))
    lines = [line]
    if test.pairs:
        lines.append(Text(f"           {_pair_line(test.pairs)}"))
    if test.rows and (test.rows.shown_n or test.rows.held_out_n):
        lines.append(Text(f"           {_row_line(test.rows)}"))
    return Group(*lines)


def _pair_line(pairs: PairTest) -> str:
    return (
        f"{pairs.n_pairs} new pairs: score {pairs.score:.2f} in the top {pairs.k}, higher than "
        f"{pairs.percentile:.0f} % of the other {pairs.n_others} heads "
        f"(their mean {pairs.others_mean:.3f}, best {pairs.others_max:.2f})"
    )


def _row_line(rows: RowTest) -> str:
    return f"rows that fit: {rows.shown_k} of {rows.shown_n} shown, {rows.held_out_k} of {rows.held_out_n} held out"


def _retrieved(retrieved: Sequence[Retrieved]) -> RenderableType:
    line = Text.assemble(("  alike    ", "dim"))
    if not retrieved:
        line.append("no known operation")
    for place, one in enumerate(retrieved):
        line.append(", " if place else "")
        line.append_text(inert(one.operation))
        line.append(f" {one.similarity:.2f}" + ("" if one.part is None else f" (part {one.part + 1})"), "dim")
    return line


def _constant(mapping: HeadMapping) -> Text:
    """What a reader of the rows should leave aside, since it is in all of them."""
    part = mapping.constant
    assert part is not None
    told = f"Whatever it reads it promotes ({part.share:.0%} of the length of a salient row): "
    return Text.assemble((told, "dim"), tokens(part.targets, mapping.dimmed))


def _operations(report: HeadReport) -> Table:
    """All that the head does, each with its own test."""
    table = plain_table("All operations that its tests support")
    table.add_column("part", justify="right", no_wrap=True)
    table.add_column("operation", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("without", justify="right", no_wrap=True)
    table.add_column("higher than", justify="right", no_wrap=True)
    table.add_column("such as", overflow="fold")
    for one in report.operations:
        pairs, part = one.test.pairs, ", ".join(str(place + 1) for place in one.parts)
        numbers = ("", "", "")
        if pairs is not None:
            without = "" if pairs.shuffled is None else f"{pairs.shuffled:.2f}"
            numbers = (f"{pairs.score:.2f} of {pairs.n_pairs}", without, f"{pairs.percentile:.0f} %")
        held = [each.row for each in one.test.tested_rows if each.hit][:EXAMPLES]
        name = Text(" ").join([inert(one.operation, "bold"), *([inert(one.also_said, "dim")] if one.also else [])])
        table.add_row(part, name, *numbers, Text(", ").join(map(_first_target, held)))
    return table


def _first_target(row: MappingRow) -> Text:
    return Text(" → ").join([token_text(row.token), *(token_text(one.token) for one in row.targets[:1])])


def _parts(report: HeadReport) -> Table:
    """Groups of words for which the head writes alike."""
    mapping, faint = report.mapping, report.mapping.dimmed
    told = sum(part.share for part in mapping.parts)
    table = plain_table(f"Its parts: words for which it writes alike ({told:.0%} of what it writes besides)")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("words", overflow="fold")
    table.add_column("what they have in common, strongest first", overflow="fold")
    for place, part in enumerate(mapping.parts, 1):
        words = Text("  ").join(token_text(row.token) for row in part.rows[:PART_WORDS])
        table.add_row(str(place), f"{part.share:.1%}", words, tokens(part.targets, faint))
    return table


def _rows(title: str, rows: Sequence[MappingRow], faint: Collection[int]) -> Table:
    table = plain_table(title)
    table.add_column("salience", justify="right", no_wrap=True, style="dim")
    table.add_column("token", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("targets, strongest first", overflow="fold")
    for row in rows:
        style = "dim" if row.token_id in faint else "bold"
        table.add_row(f"{row.salience:.3f}", token_text(row.token, style), tokens(row.targets, faint))
    return table


def _tested(test: TestResult) -> Table:
    within = f" (holds: among the {test.pairs.k} strongest)" if test.pairs else ""
    table = plain_table(f"Some of the new words that it was tested on, read as the test reads{within}")
    table.add_column("", no_wrap=True)
    table.add_column("token", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("said", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("targets, strongest first", overflow="fold")
    for one in test.tested_rows:
        mark = Text("✓", "green") if one.hit else Text("✗", "red")
        table.add_row(mark, token_text(one.row.token, "bold"), inert(one.wanted.strip()), tokens(one.row.targets))
    return table


def _footer(report: HeadReport) -> Text:
    fingerprint = report.provenance.fingerprint[:12]
    return Text.assemble((f"checkpoint {fingerprint} ", "dim"), inert(report.provenance.checkpoint, "dim"))
