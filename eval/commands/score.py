"""`score-descriptions`: automatic scores of descriptions on held-out tokens. Heavy imports stay inside the handler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.commands.command_line import SOURCES, Version, command_line, models, words
from agent.commands.database_option import Database
from agent.commands.options import AsJson, Debug, Device
from agent.output.console import reports_errors

_app = command_line()

Run = Annotated[int | None, typer.Option("--run", help="Run of label-heads. [default: the newest finished one]")]
From = Annotated[Path | None, typer.Option("--from", help="Heads of a file of `label-heads --export FILE.jsonl`.")]
Layer = Annotated[int | None, typer.Option("--layer", help="Describe and score one head now; with --head.")]
Head = Annotated[int | None, typer.Option("--head", help="Its number in the layer.")]
Layers = Annotated[str | None, typer.Option("--layers", help="Such as 0-11,20. [default: all]")]
Heads = Annotated[str | None, typer.Option("--heads", help="Of each layer, such as 0,3-5. [default: all]")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many heads, drawn by --seed.")]
Scorers = Annotated[
    str | None,
    typer.Option("--scorers", help="Of detection, fuzzing, intruder, simulation, generation. [default: all]"),
]
JudgeName = Annotated[
    str,
    typer.Option(
        "--judge", help="lexical, embedding, openai:MODEL or another language model; auto.", envvar="HEADSCRIBE_JUDGE"
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Whose weights are read. [default: the run's own model; smollm2-135m with --layer]",
        envvar="HEADSCRIBE_MODEL",
        autocompletion=models,
    ),
]
Source = Annotated[
    str,
    typer.Option(
        "--source",
        help="With --layer: auto, first-mlp, embedding or first-block.",
        envvar="HEADSCRIBE_SOURCE",
        autocompletion=words(SOURCES),
    ),
]
Describer = Annotated[
    str,
    typer.Option("--describer", help="With --layer: who describes the head.", envvar="HEADSCRIBE_DESCRIBER"),
]
Output = Annotated[
    list[Path] | None,
    typer.Option("--output", help="File .jsonl (continued where it holds some) or .csv. Repeatable."),
]
Figure = Annotated[Path | None, typer.Option("--figure", help="Scores by layer as .png, .svg or .pdf.")]


@_app.command()
@reports_errors
def score_descriptions(
    run: Run = None,
    from_file: From = None,
    layer: Layer = None,
    head: Head = None,
    layers: Layers = None,
    heads: Heads = None,
    limit: Limit = None,
    scorers: Scorers = None,
    judge: JudgeName = "auto",
    model: Model = None,
    weights: Annotated[
        bool, typer.Option("--weights/--no-weights", help="Read the model: generation and real hard negatives.")
    ] = True,
    items: Annotated[int, typer.Option("--items", min=8, max=60, help="Rows asked about, a head and scorer.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="Of questions, swaps and intervals.")] = 0,
    source: Source = "auto",
    describer: Describer = "auto",
    device: Device = "auto",
    database: Database = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Replies of a language model in flight.")] = 8,
    token_budget: Annotated[
        int | None, typer.Option("--token-budget", min=1, help="Stop before a language model takes more tokens.")
    ] = None,
    output: Output = None,
    figure: Figure = None,
    per_head: Annotated[bool, typer.Option("--per-head", help="A table of heads as well.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """How well descriptions predict their heads on tokens that the describer did not see.

    Every scorer also runs with descriptions swapped among heads: one that cannot tell them from the heads' own says
    nothing, and the table says so.
    """
    from agent.output.console import quiet_libraries

    quiet_libraries()
    from eval.scoring.request import ScoreRequest
    from eval.scoring.run_request import run_request

    request = ScoreRequest(
        run=run, from_file=from_file, layer=layer, head=head, layers=layers, heads=heads, limit=limit,
        scorers=scorers, judge=judge, model=model, weights=weights, items=items, seed=seed, source=source,
        describer=describer, device=device, database=database, workers=workers, token_budget=token_budget,
        output=tuple(output or ()), figure=figure, per_head=per_head, as_json=as_json,
    )  # fmt: skip
    run_request(request)


def score_descriptions_main() -> None:
    """Entry point of `score-descriptions`."""
    _app(prog_name="score-descriptions")
