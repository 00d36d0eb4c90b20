"""`label-heads`: every head of a model labelled, stored and resumable. Heavy imports stay inside the handler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from agent.commands.command_line import OptionGroup, Version, command, command_line
from agent.commands.options import (
    Database,
    DescriberOptions,
    Heads,
    LanguageModelOptions,
    Layers,
    ReadingOptions,
    SeveralDevices,
    Workers,
)
from agent.commands.stopping import stoppable
from agent.output.console import console, echo_json
from maps_engine.errors import HeadscribeError

if TYPE_CHECKING:
    from agent.pipeline.label import Outcome, Plan
    from agent.pipeline.request import LabelRequest

app = command_line()


@dataclass(frozen=True)
class RunOptions(OptionGroup):
    """How the heads are worked through; none of it changes a description."""

    title: ClassVar[str] = "The run"
    workers: Workers = 8
    heads_at_once: Annotated[int, typer.Option(min=1, help="Heads of a batch: more share more, fewer lose less.")] = 144
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Describe failed heads again.")] = False
    engine: Annotated[str, typer.Option("--engine", help="local, or ray (extra headscribe[ray]).")] = "local"
    address: Annotated[str | None, typer.Option("--address", help="Of the Ray cluster; none starts one here.")] = None
    database: Database = None


Export = Annotated[
    list[Path] | None, typer.Option("--export", help="File .jsonl, .csv, .parquet or .html. Repeatable.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Estimate time and memory, then stop.")]
SummaryAsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]


@command(app)
def label_heads(
    checkpoint: SeveralDevices,
    reading: ReadingOptions,
    describer: DescriberOptions,
    language_model: LanguageModelOptions,
    run: RunOptions,
    layers: Layers = None,
    heads: Heads = None,
    export: Export = None,
    dry_run: DryRun = False,
    as_json: SummaryAsJson = False,
    version: Version = False,
) -> None:
    """Say what every attention head of a model does. The same command continues a run that was stopped or killed."""
    from agent.output.run_files import check_export
    from agent.pipeline.request import LabelRequest, check_request

    request = LabelRequest(
        model=checkpoint.model,
        revision=checkpoint.revision,
        layers=layers,
        heads=heads,
        settings=reading.settings(),
        describer=describer.describer,
        device=checkpoint.device,
        workers=run.workers,
        heads_at_once=run.heads_at_once,
        model_options=language_model.given(device=checkpoint.device, workers=run.workers),
        max_revisions=describer.max_revisions,
        most_parts=describer.name_parts,
        counted=describer.counted,
        attention=describer.attention,
    )
    check_request(request, run.engine)
    if dry_run:
        _estimate(request, as_json)
        return
    for path in export or ():
        check_export(path)
    if _run(request, run, export or [], as_json):
        raise typer.Exit(130)


def _run(request: LabelRequest, run: RunOptions, export: list[Path], as_json: bool) -> bool:
    """Whether it was stopped before the end."""
    from agent.output.terminal.label_progress import Tally, shown_progress
    from agent.pipeline.flow import said_reading
    from agent.pipeline.label import label, prepare

    engine: Any = run.engine  # one of the two by `check_request`
    with stoppable() as stop:
        plan = prepare(request, database=run.database, retry_failed=run.retry_failed)
        _tell(_opening(plan))
        _tell(said_reading(plan.bench.maps, plan.job.layers[-1]))
        tally = Tally(plan.before, request.model_options.price)
        with shown_progress(tally) as on_event:
            outcome = label(plan, on_event=on_event, stop=stop, backend=engine, address=run.address)
    failed = _export(plan, export)
    _result(plan, outcome, as_json)
    if outcome.state == "stopped":
        now = outcome.counts
        _tell(f"stopped: {now.done} of {now.total} heads are done; the same command continues run {outcome.run_id}")
    if failed is not None:
        raise failed
    return outcome.state == "stopped"


def _export(plan: Plan, paths: list[Path]) -> HeadscribeError | None:
    """Write each file, whatever becomes of the others; the first failure, for the end."""
    from agent.output.run_files import export_run

    failed: list[HeadscribeError] = []
    for path in paths:
        try:
            _tell(f"{export_run(plan.database, plan.job.run_id, path)} heads written to {path}")
        except HeadscribeError as error:
            failed.append(error)
    for other in failed[1:]:
        _tell(f"error: {other.one_line()}")
    return failed[0] if failed else None


def _opening(plan: Plan) -> str:
    before = plan.before
    if plan.created:
        return f"run {plan.job.run_id} (new): {before.total} heads"
    return f"run {plan.job.run_id} (continued): {before.done} of {before.total} heads are done"


def _result(plan: Plan, outcome: Outcome, as_json: bool) -> None:
    from agent.output.terminal.label_summary import show_summary, summarise

    summary = summarise(plan.database, plan.job.run_id)
    if as_json:
        done = {"state": outcome.state, "labelled": outcome.labelled, "seconds": round(outcome.seconds, 3)}
        echo_json(done | summary.to_json())
    else:
        show_summary(console(), summary)


def _tell(line: str) -> None:
    from maps_engine.checkpoints.token_spelling import visible

    typer.echo(visible(line), err=True)


def _estimate(request: LabelRequest, as_json: bool) -> None:
    from agent.output.terminal.estimate_page import show_estimate
    from agent.pipeline.estimate import estimate_request

    estimate = estimate_request(request)
    if as_json:
        echo_json(estimate.to_json())
    else:
        show_estimate(console(), estimate)


def label_heads_main() -> None:
    """Entry point of `label-heads`."""
    app(prog_name="label-heads")
