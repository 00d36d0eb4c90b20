"""What a run came to: coverage by layer and the most frequent operations, as values and as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from agent.output.console import inert
from agent.runs.stored import StoredLine, stored_lines
from agent.runs.tables import RunSummary, show_run

FREQUENT = 12


@dataclass(frozen=True)
class LayerCoverage:
    """Heads of one layer; `supported` are named ones whose test agreed."""

    layer: int
    ok: int
    unclear: int
    failed: int
    supported: int
    operations: tuple[str, ...]  # most frequent first, at most three


@dataclass(frozen=True)
class LabelSummary:
    """A whole run in numbers."""

    run: RunSummary
    layers: tuple[LayerCoverage, ...]
    operations: tuple[tuple[str, int], ...]  # most frequent first
    verdicts: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def summarise(engine: Engine, run_id: int) -> LabelSummary:
    """Read a run's results once. Raises UnknownRun."""
    lines = list(stored_lines(engine, run_id))
    named = [one for one in lines if one.status == "ok"]
    layers = sorted({one.layer for one in lines})
    return LabelSummary(
        run=show_run(engine, run_id),
        layers=tuple(_layer(layer, [one for one in lines if one.layer == layer]) for layer in layers),
        operations=tuple(Counter(one.operation for one in named).most_common(FREQUENT)),
        verdicts=tuple(Counter(one.verdict or "not tested" for one in named).most_common()),
    )


def _layer(layer: int, lines: Sequence[StoredLine]) -> LayerCoverage:
    status = Counter(one.status for one in lines)
    named = Counter(one.operation for one in lines if one.status == "ok")
    supported = sum(one.verdict == "supported" for one in lines)
    top = tuple(name for name, _ in named.most_common(3))
    return LayerCoverage(layer, status["ok"], status["unclear"], status["failed"], supported, top)


def show_summary(out: Console, summary: LabelSummary) -> None:
    """The page: one line for the run, coverage by layer, most frequent operations."""
    run, counts = summary.run, summary.run.counts
    out.print(Text.assemble("Run ", (str(run.run_id), "bold"), " of ", inert(run.model, "bold"), f", {run.describer}"))
    share = counts.ok / counts.done if counts.done else 0.0
    out.print(
        f"{counts.done} of {counts.total} heads: {counts.ok} named ({share:.0%}), {counts.unclear} unclear,"
        f" {counts.failed} failed"
    )
    if summary.verdicts:
        out.print("Tests of the named: " + ", ".join(f"{n} {verdict}" for verdict, n in summary.verdicts))
    out.print()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "named", "unclear", "failed", "supported"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    table.add_column("most frequent", overflow="ellipsis", no_wrap=True, max_width=64)
    for one in summary.layers:
        cells = (one.layer, one.ok, one.unclear, one.failed, one.supported)
        table.add_row(*map(str, cells), inert(", ".join(one.operations)))
    out.print(table)
    if summary.operations:
        out.print("Most frequent operations")
        for name, n in summary.operations:
            out.print(Text.assemble(f"{n:>5}  ", inert(name)))
