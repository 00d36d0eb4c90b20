"""Commands of `rate-heads` around the answers of a study: what they show, and where they go.

Heavy imports stay inside the handlers, so that --help is instant.
"""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands.command_line import say
from agent.commands.options import AsJson, Database, StoreUrl
from agent.output.console import console, echo_json, inert
from eval.commands.studies import StudyId, study_engine

if TYPE_CHECKING:
    from sqlalchemy import Engine


def agreement(
    study: StudyId,
    report: Annotated[Path | None, typer.Option(help="Write report.md, report.html and figures here.")] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.", min=10, max=100_000)] = 1000,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Plausibility and agreement with intervals; the report of the study."""
    from eval.rating.report.report import study_report
    from eval.rating.report.text import as_markdown, report_json, write_report

    found = study_report(study_engine(database), study, draws=draws)
    if report is not None:
        write_report(found, report)
    if as_json:
        echo_json(report_json(found))
    else:
        typer.echo(as_markdown(found, linked=report is not None), nl=False)


def export(
    study: StudyId,
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    fmt: Annotated[str, typer.Option("--format", help="csv, jsonl or label-studio.")] = "jsonl",
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Write the answers of a study to a file."""
    from eval.rating.exchange.export import export as text_of
    from maps_engine.files import write_whole

    text = text_of(study_engine(database), study, fmt)
    write_whole(out, text)
    said = {"file": str(out), "characters": len(text)}
    say(f"wrote {out} ({len(text):,} characters)", value=said, as_json=as_json)


def import_file(
    file: Annotated[Path, typer.Argument(help="JSONL or Label Studio JSON as `export` writes it.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Read answers: into a new study, or into the one whose items they answer."""
    from eval.rating.exchange.imports import import_study

    study, added = import_study(study_engine(database), file.read_text(encoding="utf-8", errors="replace"))
    say(f"study {study}: {added} answers added", value={"study": study, "answers": added}, as_json=as_json)


def judge(
    study: StudyId,
    kind: Annotated[str, typer.Option(help="lexical, openai:MODEL or another language model.")] = "lexical",
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Let a program rate too; it is marked and never mixed with people."""
    from eval.rating.judges import make_judge, run_judge

    named, made = make_judge(kind)
    n = run_judge(study_engine(database), study, made, kind=named)
    say(f"{kind}: {n} answers", value={"study": study, "judge": kind, "answers": n}, as_json=as_json)


def approve(
    study: StudyId,
    min_raters: Annotated[int, typer.Option(help="At least so many must have judged it.", min=1)] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be added.")] = False,
    store_url: StoreUrl = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Hand descriptions that people call plausible to the store of known operations."""
    from eval.rating.verdicts import approved_descriptions

    engine = study_engine(database)
    found = approved_descriptions(engine, study, min_raters=min_raters)
    known = () if dry_run or not found else _add(engine, study, min_raters, store_url)
    if as_json:
        echo_json([{"known": one.operation.name in known} | asdict(one) for one in found])
        return
    if not found:
        need = f"most of its raters (at least {min_raters}) or by the lead"
        typer.echo(f"nothing to add: no description of study {study} is called plausible by {need}")
    for one in found:
        done = "would add" if dry_run else "in the catalogue" if one.operation.name in known else "added"
        console().print(inert(f"{done} {one.operation.name}: {one.operation.description}"))


def _add(engine: Engine, study: int, min_raters: int, store_url: str | None) -> tuple[str, ...]:
    """Add what raters approved; the names that the catalogue has already."""
    from agent.operations.additions import add_operations, open_known_operations
    from eval.rating.verdicts import approve as add_approved

    with open_known_operations(url=store_url) as store:
        add = functools.partial(add_operations, store)
        return add_approved(engine, study, add, min_raters=min_raters).in_catalogue


def backup(
    out: Annotated[Path, typer.Argument(help="New file.")], database: Database = None, as_json: AsJson = False
) -> None:
    """Copy the SQLite database while it is in use."""
    from eval.rating.store import backup as copy

    size = copy(study_engine(database), out)
    say(f"wrote {out} ({size:,} bytes)", value={"file": str(out), "bytes": size}, as_json=as_json)
