"""`headscribe runs`: list, show, compare, export and delete what `label-heads` stored; add relation scores to it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.command_line import command, group_of_commands, say
from agent.commands.options import AsJson, Database
from agent.output.console import console, echo_json, inert

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy import Engine

    from agent.runs.stored import StoredLine
    from agent.runs.tables import Comparison, RunSummary

app = group_of_commands("Runs of label-heads in the database.")
SHOWN_DIFFERENCES = 40

LARGEST_NUMBER = 2**31 - 1  # of a run: what an integer column of PostgreSQL holds
WIDE_ENOUGH = 100  # columns of a terminal; with fewer, names in the table of runs would be cut to nothing

Run = Annotated[int, typer.Argument(help="Number of the run, as in `headscribe runs list`.", min=1, max=LARGEST_NUMBER)]


@command(app, "list")
def list_stored(database: Database = None, as_json: AsJson = False) -> None:
    """All runs, newest first."""
    from agent.runs.tables import list_runs

    found = list_runs(_opened(database))
    if as_json:
        echo_json([asdict(one) for one in found])
    else:
        _show_list(found)


@command(app, "show")
def show(run: Run, database: Database = None, as_json: AsJson = False) -> None:
    """One run: settings, coverage by layer, most frequent operations."""
    from agent.output.terminal.label_summary import show_summary, summarise

    summary = summarise(_opened(database), run)
    if as_json:
        echo_json(summary.to_json())
        return
    out = console()
    show_summary(out, summary)
    out.print()
    for name, value in sorted(_flat(summary.run.settings).items()):
        out.print(inert(f"{name}: {value}", "dim"))


@command(app, "compare")
def compare(first: Run, second: Run, database: Database = None, as_json: AsJson = False) -> None:
    """Two runs: settings that differ, and heads that are described differently."""
    from agent.runs.tables import compare_runs

    found = compare_runs(_opened(database), first, second)
    if as_json:
        echo_json(found.to_json())
    else:
        _show_comparison(found, first, second)


@command(app, "export")
def export(
    run: Run,
    files: Annotated[list[Path], typer.Argument(help="Files .jsonl, .csv, .parquet or .html.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Write a run to files; the suffix decides the format."""
    from agent.output.run_files import check_export, export_run
    from agent.runs.tables import show_run

    engine = _opened(database)
    show_run(engine, run)
    for path in files:
        check_export(path)
    written = [{"file": str(path), "heads": export_run(engine, run, path)} for path in files]
    lines = (f"{one['heads']} heads written to {one['file']}" for one in written)
    say(*lines, value=written, as_json=as_json)


@command(app, "add-scores")
def add_scores(
    file: Annotated[Path, typer.Argument(help="A table that `map-relations --save FILE` wrote.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Put relation scores beside the runs of their model: the head browser shows them from then on."""
    from agent.runs.relation_records import add_saved_scores

    added = add_saved_scores(_opened(database), file)
    lines = (f"{added.n_operations} operations of {added.model} are stored", added.replaced)
    say(*filter(None, lines), value=asdict(added), as_json=as_json)


@command(app, "delete")
def delete(
    run: Run,
    database: Database = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a run with everything in it."""
    from agent.runs.tables import delete_run, show_run

    engine = _opened(database)
    summary = show_run(engine, run)
    question = f"Delete run {run} of {inert(summary.model).plain} with {summary.counts.done} labelled heads?"
    if not yes and not typer.confirm(question, err=as_json):
        raise typer.Exit(1)
    delete_run(engine, run)
    say(f"run {run} is deleted", value={"deleted": run}, as_json=as_json)


def _opened(database: str | None) -> Engine:
    from agent.runs.database import open_database

    return open_database(database)


def _show_list(found: list[RunSummary]) -> None:
    out = console()
    if not found:
        typer.echo("no runs yet; label-heads makes one")
    elif out.width < WIDE_ENOUGH:
        _show_paragraphs(out, found)
    else:
        _show_table(out, found)


def _show_paragraphs(out: Console, found: list[RunSummary]) -> None:
    for one in found:
        n = one.counts
        parts = f"{n.ok} named, {n.unclear} unclear, {n.failed} failed"
        out.print(f"run {one.run_id}: {n.done} of {n.total} heads, {parts}", markup=False)
        out.print(inert(f"{one.model}, {one.describer}, {one.state}, {_started(one)} UTC", "dim"))
        out.print()


def _show_table(out: Console, found: list[RunSummary]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "heads", "named", "unclear", "failed"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for name in ("model", "describer"):
        table.add_column(name, overflow="ellipsis", min_width=len(name))  # only columns that may wrap give way
    for name in ("state", "started (UTC)"):
        table.add_column(name, no_wrap=True, min_width=len(name))
    for one in found:
        n = one.counts
        cells = (one.run_id, f"{n.done}/{n.total}", n.ok, n.unclear, n.failed)
        table.add_row(*map(str, cells), inert(one.model), inert(one.describer), one.state, _started(one))
    out.print(table)


def _started(one: RunSummary) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.started))


def _show_comparison(found: Comparison, first: int, second: int) -> None:
    out = console()
    for name, values in found.settings.items():
        out.print(inert(f"{name}: {values[0]} | {values[1]}"))
    alike = f"{found.same} heads are described alike, {len(found.different)} differently"
    out.print(f"{alike}, {len(found.only_in_one)} only in one run")
    for one in found.different[:SHOWN_DIFFERENCES]:
        out.print(inert(f"  {one.layer}.{one.head}  {_words(one.first)} | {_words(one.second)}"))
    if len(found.different) > SHOWN_DIFFERENCES:
        left = len(found.different) - SHOWN_DIFFERENCES
        out.print(f"  … and {left} more of runs {first} and {second}; --json has all")


def _words(said: StoredLine | None) -> str:
    if said is None:
        return "no result"
    return said.operation if said.status == "ok" else said.status


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
