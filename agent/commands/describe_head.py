"""`describe-head`: what one head does. Heavy imports stay inside the handler, so that --help is instant."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands.command_line import Version, command, command_line
from agent.commands.options import (
    AsJson,
    CheckpointOptions,
    Database,
    DescriberOptions,
    LanguageModelOptions,
    ReadingOptions,
)
from agent.output.console import console, echo_json, progress

if TYPE_CHECKING:
    from agent.pipeline.one_head import DescribedHead
    from agent.results.reports import HeadReport, Trace

app = command_line()

Layer = Annotated[int, typer.Option("--layer", help="Layer, counted from 0.", envvar="HEADSCRIBE_LAYER")]
Head = Annotated[int, typer.Option("--head", help="Head within the layer, counted from 0.", envvar="HEADSCRIBE_HEAD")]
Transcript = Annotated[
    str | None,
    typer.Option("--transcript", help="Show the conversation with a language model: - here, else a file."),
]
NoSuppressed = Annotated[bool, typer.Option("--no-suppressed", help="Leave suppressed tokens out.")]
NoStore = Annotated[bool, typer.Option("--no-store", help="Do not record the head in the database of runs.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Compute embeddings and the store anew.")]


@command(app)
def describe_head(
    layer: Layer,
    head: Head,
    checkpoint: CheckpointOptions,
    reading: ReadingOptions,
    describer: DescriberOptions,
    language_model: LanguageModelOptions,
    transcript: Transcript = None,
    no_suppressed: NoSuppressed = False,
    no_store: NoStore = False,
    database: Database = None,
    no_cache: NoCache = False,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """Say what one attention head does: its mappings, evidence, description, and how well it tested.

    The head joins the run that `label-heads` with the same settings makes, so that `serve-heads` shows it.
    """
    _check(layer, head, None if no_store else database)
    with progress(enabled=not as_json) as tell, ExitStack() as stack:
        from agent.pipeline.one_head import describe_head as run
        from agent.pipeline.request import DescribeRequest

        request = DescribeRequest(
            model=checkpoint.model,
            revision=checkpoint.revision,
            settings=reading.settings(),
            describer=describer.describer,
            device=checkpoint.device,
            use_cache=not no_cache,
            store_folder=Path(stack.enter_context(tempfile.TemporaryDirectory())) if no_cache else None,
            model_options=language_model.given(device=checkpoint.device, no_cache=no_cache),
            max_revisions=describer.max_revisions,
            most_parts=describer.name_parts,
            counted=describer.counted,
            attention=describer.attention,
        )
        described = run(request, layer, head, tell=tell)
        report = described.report
        if transcript not in (None, "-"):
            _write_transcript(Path(str(transcript)), report.trace)
    if as_json:
        echo_json(report.to_json())
    else:
        _show(report, suppressed=not no_suppressed, transcript=transcript == "-")
    if not no_store:
        _record(described, database, quiet=as_json)
    if report.description.status == "failed":
        raise typer.Exit(1)


def _check(layer: int, head: int, database: str | None) -> None:
    """Raises OutOfRange and UserMistake for what no opened model is needed to refuse."""
    from agent.runs.database import database_url
    from maps_engine.errors import OutOfRange

    database_url(database)

    for what, value in (("layer", layer), ("head", head)):
        if value < 0:
            raise OutOfRange(f"{what} cannot be negative", got=value, expected=f"a {what} counted from 0")


def _record(described: DescribedHead, database: str | None, *, quiet: bool) -> None:
    """After the page is shown, so that a database that cannot be written costs nobody the description."""
    from agent.pipeline.one_head import record_head
    from agent.runs.database import open_database

    opened = open_database(database)
    try:
        run = record_head(opened, described)
    finally:
        opened.dispose()
    if not quiet:
        typer.echo(f"recorded in run {run}", err=True)


def _show(report: HeadReport, *, suppressed: bool, transcript: bool) -> None:
    from agent.output.terminal.head_page import show_page
    from agent.output.terminal.transcript import show_transcript

    show_page(console(), report, suppressed=suppressed)
    if transcript:
        show_transcript(console(), report.trace)


def _write_transcript(path: Path, trace: Trace) -> None:
    """The conversation as text. Raises FileNotWritten."""
    from agent.output.terminal.transcript import transcript_text
    from maps_engine.files import write_whole

    write_whole(path, transcript_text(trace).encode("utf-8", "backslashreplace"))


def describe_head_main() -> None:
    """Entry point of `describe-head`."""
    app(prog_name="describe-head")
