"""`label-heads`: every head of a model labelled, stored and resumable. Heavy imports stay inside the handler."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from agent.commands.command_line import DEVICES, Version, command_line, words
from agent.commands.database_option import Database
from agent.commands.describer_option import Describer
from agent.commands.options import (
    Debug,
    FoldBiases,
    FoldNorms,
    Model,
    NormalTokensOnly,
    Revision,
    Source,
    Targets,
    Top,
)
from agent.llm.options import (
    MAX_REVISIONS,
    MAX_TOKENS,
    TIMEOUT,
    InFlight,
    LlmMode,
    LlmTimeout,
    MaxRevisions,
    MaxTokens,
    MoneyBudget,
    NoReplyCache,
    PriceText,
    RequestsPerMinute,
    TokenBudget,
    TokensPerMinute,
    given_options,
)
from agent.output.console import console, echo_json, one_line_errors, quiet_libraries
from maps_engine.errors import HeadscribeError

if TYPE_CHECKING:
    from agent.pipeline.job import LabelRequest
    from agent.pipeline.label import Outcome, Plan

_app = command_line()

Layers = Annotated[str | None, typer.Option("--layers", help="Such as 0-11,20. [default: all]")]
Heads = Annotated[str | None, typer.Option("--heads", help="Of each layer, such as 0,3-5. [default: all]")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, mps, or several: cuda:0,cuda:1.",
        envvar="HEADSCRIBE_DEVICE",
        autocompletion=words(DEVICES),
    ),
]
Export = Annotated[
    list[Path] | None, typer.Option("--export", help="File .jsonl, .csv, .parquet or .html. Repeatable.")
]


@_app.command()
def label_heads(
    model: Model = "smollm2-135m",
    layers: Layers = None,
    heads: Heads = None,
    source: Source = "auto",
    describer: Describer = "auto",
    device: Device = "auto",
    database: Database = None,
    revision: Revision = None,
    top: Top = 30,
    targets: Targets = 5,
    normal_tokens_only: NormalTokensOnly = False,
    fold_norms: FoldNorms = False,
    fold_biases: FoldBiases = False,
    workers: InFlight = 8,
    max_revisions: MaxRevisions = MAX_REVISIONS,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    token_budget: TokenBudget = None,
    budget: MoneyBudget = None,
    price: PriceText = None,
    max_tokens: MaxTokens = MAX_TOKENS,
    llm_mode: LlmMode = "auto",
    llm_timeout: LlmTimeout = TIMEOUT,
    no_reply_cache: NoReplyCache = False,
    heads_at_once: Annotated[
        int, typer.Option(min=1, help="Heads of a batch: more share more, fewer lose less.")
    ] = 144,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Describe failed heads again.")] = False,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray (extra headscribe[ray]).")] = "local",
    address: Annotated[str | None, typer.Option("--address", help="Of the Ray cluster; none starts one here.")] = None,
    export: Export = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate time and memory, then stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Say what every attention head of a model does. The same command continues a run that was stopped or killed."""
    quiet_libraries()
    with one_line_errors(debug=debug):
        from agent.output.run_files import check_export
        from agent.pipeline.job import LabelRequest, check_request
        from maps_engine.results import EngineSettings

        settings = EngineSettings(
            source=source,
            fold_norms=fold_norms,
            fold_biases=fold_biases,
            include_special=not normal_tokens_only,
            top=top,
            targets=targets,
        )
        options = given_options(
            workers=workers,
            price=price,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            token_budget=token_budget,
            money_budget=budget,
            max_tokens=max_tokens,
            mode=llm_mode,
            timeout=llm_timeout,
            device=device,
            no_cache=no_reply_cache,
        )
        request = LabelRequest(
            model=model,
            revision=revision,
            layers=layers,
            heads=heads,
            settings=settings,
            describer=describer,
            device=device,
            workers=workers,
            heads_at_once=heads_at_once,
            model_options=options,
            max_revisions=max_revisions,
        )
        check_request(request, engine)
        if dry_run:
            _estimate(request, as_json)
            return
        for path in export or ():
            check_export(path)
        stopped = _run(request, database, retry_failed, engine, address, export or [], as_json)
    if stopped:
        raise typer.Exit(130)


def _run(
    request: LabelRequest,
    database: str | None,
    retry_failed: bool,
    engine: Any,
    address: str | None,
    export: list[Path],
    as_json: bool,
) -> bool:
    """Whether it was stopped before the end."""
    from agent.output.terminal.label_progress import Tally, shown_progress
    from agent.pipeline.label import label, prepare

    with _stoppable() as stop:
        plan = prepare(request, database=database, retry_failed=retry_failed)
        _tell(_opening(plan))
        tally = Tally(plan.before, request.model_options.price)
        with shown_progress(tally) as on_event:
            outcome = label(plan, on_event=on_event, stop=stop, engine=engine, address=address)
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


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C (or SIGTERM) asks to stop; the second ends the process, its workers and their requests with it.

    What was recorded stays; claims of a process that is gone are given back by whoever looks next.
    """
    asked = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            _end_at_once()
        asked.set()
        sys.stderr.write("\nfinishing what is in flight; Ctrl-C again stops at once\n")

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once() -> NoReturn:
    for child in multiprocessing.active_children():
        child.kill()
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")  # the progress bar hides the cursor
    sys.stderr.flush()
    os._exit(130)


def label_heads_main() -> None:
    """Entry point of `label-heads`."""
    _app(prog_name="label-heads")
