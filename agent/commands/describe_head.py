"""Console scripts of the agent. Heavy imports stay inside the handlers, so that --help is instant."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands.command_line import Version, command_line
from agent.commands.describer_option import Describer
from agent.commands.options import (
    AsJson,
    Debug,
    Device,
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
from agent.output.console import console, echo_json, one_line_errors, progress, quiet_libraries

if TYPE_CHECKING:
    from agent.results import HeadReport, Trace

_app = command_line()

Layer = Annotated[int, typer.Option("--layer", help="Layer, counted from 0.", envvar="HEADSCRIBE_LAYER")]
Head = Annotated[int, typer.Option("--head", help="Head within the layer, counted from 0.", envvar="HEADSCRIBE_HEAD")]


@_app.command()
def describe_head(
    layer: Layer,
    head: Head,
    model: Model = "smollm2-135m",
    source: Source = "auto",
    revision: Revision = None,
    device: Device = "auto",
    top: Top = 30,
    targets: Targets = 5,
    describer: Describer = "auto",
    max_revisions: MaxRevisions = MAX_REVISIONS,
    transcript: Annotated[
        str | None,
        typer.Option("--transcript", help="Show the conversation with a language model: - here, else a file."),
    ] = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    token_budget: TokenBudget = None,
    budget: MoneyBudget = None,
    price: PriceText = None,
    max_tokens: MaxTokens = MAX_TOKENS,
    llm_mode: LlmMode = "auto",
    llm_timeout: LlmTimeout = TIMEOUT,
    no_reply_cache: NoReplyCache = False,
    no_suppressed: Annotated[bool, typer.Option("--no-suppressed", help="Leave suppressed tokens out.")] = False,
    normal_tokens_only: NormalTokensOnly = False,
    fold_norms: FoldNorms = False,
    fold_biases: FoldBiases = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute embeddings and the store anew.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Say what one attention head does: its mappings, evidence, description, and how well it tested."""
    quiet_libraries()
    with one_line_errors(debug=debug), progress(enabled=not as_json) as tell, ExitStack() as stack:
        from agent.describers.factory import chosen_name
        from agent.pipeline.session import describe_head as run
        from maps_engine.errors import OutOfRange
        from maps_engine.results import EngineSettings

        for what, value in (("layer", layer), ("head", head)):
            if value < 0:
                raise OutOfRange(f"{what} cannot be negative", got=value, expected=f"a {what} counted from 0")
        settings = EngineSettings(
            source=source,
            fold_norms=fold_norms,
            fold_biases=fold_biases,
            include_special=not normal_tokens_only,
            top=top,
            targets=targets,
        )
        options = given_options(
            price=price,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            token_budget=token_budget,
            money_budget=budget,
            max_tokens=max_tokens,
            mode=llm_mode,
            timeout=llm_timeout,
            device=device,
            no_cache=no_reply_cache or no_cache,
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if no_cache else None
        report = run(
            model,
            layer,
            head,
            describer=chosen_name(describer),
            settings=settings,
            source=source,
            revision=revision,
            device=device,
            use_cache=not no_cache,
            store_folder=folder,
            progress=tell,
            model_options=options,
            max_revisions=max_revisions,
        )
        if transcript not in (None, "-"):
            _write_transcript(Path(str(transcript)), report.trace)
    if as_json:
        echo_json(report.to_json())
    else:
        _show(report, suppressed=not no_suppressed, transcript=transcript == "-")
    if report.description.status == "failed":
        raise typer.Exit(1)


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
    _app(prog_name="describe-head")
