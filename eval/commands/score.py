"""`headscribe score`: automatic scores of descriptions on held-out tokens. Heavy imports stay inside the handler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from agent.commands.command_line import OptionGroup, Version
from agent.commands.completion import models
from agent.commands.options import AsJson, Database, Device, Heads, Layers, source_option


@dataclass(frozen=True)
class HeadOptions(OptionGroup):
    """Which described heads are scored: of a run, of a file, or one described now."""

    title: ClassVar[str] = "Heads"
    run: Annotated[int | None, typer.Option("--run", help="Run of label-heads. [default: the newest finished one]")] = (
        None
    )
    from_file: Annotated[
        Path | None, typer.Option("--from", help="Heads of a file of `label-heads --export FILE.jsonl`.")
    ] = None
    layer: Annotated[int | None, typer.Option("--layer", help="Describe and score one head now; with --head.")] = None
    head: Annotated[int | None, typer.Option("--head", help="Its number in the layer.")] = None
    layers: Layers = None
    heads: Heads = None
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many heads, drawn by --seed.")] = None
    source: Annotated[str, source_option("With --layer: auto, residual, first-mlp (paper) or embedding.")] = "auto"
    describer: Annotated[
        str,
        typer.Option("--describer", help="With --layer: who describes the head.", envvar="HEADSCRIBE_DESCRIBER"),
    ] = "auto"
    database: Database = None


@dataclass(frozen=True)
class QuestionOptions(OptionGroup):
    """What is asked about a description, and of whom."""

    title: ClassVar[str] = "Questions"
    scorers: Annotated[
        str | None,
        typer.Option("--scorers", help="Of detection, fuzzing, intruder, simulation, generation. [default: all]"),
    ] = None
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            help="lexical, embedding, openai:MODEL or another language model; auto.",
            envvar="HEADSCRIBE_JUDGE",
        ),
    ] = "auto"
    items: Annotated[int, typer.Option("--items", min=8, max=60, help="Rows asked about, a head and scorer.")] = 20
    seed: Annotated[int, typer.Option("--seed", help="Of questions, swaps and intervals.")] = 0
    workers: Annotated[int, typer.Option("--workers", min=1, help="Replies of a language model in flight.")] = 8
    token_budget: Annotated[
        int | None, typer.Option("--token-budget", min=1, help="Stop before a language model takes more tokens.")
    ] = None


@dataclass(frozen=True)
class WeightOptions(OptionGroup):
    """The model whose weights generation and the real hard negatives need."""

    title: ClassVar[str] = "Model"
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Whose weights are read. [default: the run's own model; smollm2-135m with --layer]",
            envvar="HEADSCRIBE_MODEL",
            autocompletion=models,
        ),
    ] = None
    weights: Annotated[
        bool, typer.Option("--weights/--no-weights", help="Read the model: generation and real hard negatives.")
    ] = True
    device: Device = "auto"


def score(
    heads: HeadOptions,
    questions: QuestionOptions,
    weights: WeightOptions,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", help="File .jsonl (continued where it holds some) or .csv. Repeatable."),
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Scores by layer as .png, .svg or .pdf.")] = None,
    per_head: Annotated[bool, typer.Option("--per-head", help="A table of heads as well.")] = False,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """How well descriptions predict their heads on tokens that the describer did not see.

    Every scorer also runs with descriptions swapped among heads: one that cannot tell them from the heads' own says
    nothing, and the table says so.
    """
    from eval.scoring.request import ScoreRequest
    from eval.scoring.run_request import run_request

    request = ScoreRequest(
        **vars(heads),
        **vars(questions),
        **vars(weights),
        output=tuple(output or ()),
        figure=figure,
        per_head=per_head,
        as_json=as_json,
    )
    run_request(request)
