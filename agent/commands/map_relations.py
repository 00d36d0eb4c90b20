"""`map-relations`: which heads do which operation. Heavy imports stay inside the handlers, so that --help is instant.

`--source auto` (the default) scores under every representation that the family can compute and reports the best head
over them with the one it was read through (why: see `relation_scores`); the JSON holds the table of each as well.
Naming one representation is as many times faster.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands.command_line import SOURCES, Version, command_line, operations, words
from agent.commands.options import MOST_TARGETS, AsJson, Debug, Device, Model, Revision
from agent.output.console import echo_json, fail, reports_errors

if TYPE_CHECKING:
    from agent.commands.relation_job import Job

_app = command_line(help="Which heads of a model implement, or suppress, which operations.")

Source = Annotated[
    str,
    typer.Option(
        "--source",
        envvar="HEADSCRIBE_SOURCE",
        help="auto (best of all, head by head), embedding, first-mlp or first-block.",
        autocompletion=words(SOURCES),
    ),
]
Relations = Annotated[
    str | None,
    typer.Option(
        "--relations",
        envvar="HEADSCRIBE_RELATIONS",
        help="Names with commas, paper (its 20) or all. [default: all]",
        autocompletion=operations,
    ),
]
Pairs = Annotated[
    list[Path] | None,
    typer.Option("--pairs", help="Own pairs: JSON, JSON lines, CSV or TSV file, or a folder. Repeatable."),
]
K = Annotated[
    int | None,
    typer.Option("--k", max=MOST_TARGETS, envvar="HEADSCRIBE_K", help="Length of the lists. [default: relation's]"),
]
MinPairs = Annotated[
    int,
    typer.Option("--min-pairs", envvar="HEADSCRIBE_MIN_PAIRS", help="Fewest one-token pairs that are scored."),
]
Target = Annotated[
    str,
    typer.Option("--target", envvar="HEADSCRIBE_TARGET", help="single, or first-token of longer targets."),
]
Threshold = Annotated[
    float,
    typer.Option("--threshold", envvar="HEADSCRIBE_THRESHOLD", help="Score from which a head implements an operation."),
]


@_app.callback(invoke_without_command=True)
@reports_errors
def map_relations(
    context: typer.Context,
    model: Model = "smollm2-135m",
    revision: Revision = None,
    source: Source = "auto",
    relations: Relations = None,
    pairs: Pairs = None,
    k: K = None,
    min_pairs: MinPairs = 30,
    target: Target = "single",
    threshold: Threshold = 0.15,
    top: Annotated[int, typer.Option("--top", envvar="HEADSCRIBE_TOP", help="Best heads listed an operation.")] = 3,
    device: Device = "auto",
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all scores as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write all scores as Parquet.")] = None,
    figures: Annotated[Path | None, typer.Option("--figures", help="Folder for the figures.")] = None,
    figure_format: Annotated[str, typer.Option("--format", help="Of the figures: png or svg.")] = "png",
    report: Annotated[Path | None, typer.Option("--report", help="Write one self-contained HTML file.")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the JSON, for compare.")] = None,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Score every operation on every head: best heads, suppressors, and how far each could be chance."""
    if context.invoked_subcommand is not None:
        return
    from agent.commands.relation_job import Job, Outputs

    job = Job(model, revision, source, relations, tuple(pairs or ()), k, min_pairs, target, threshold, device)
    outputs = Outputs(csv, parquet, figures, figure_format, report, save)
    _check_top(top)
    outputs.check()
    _run(job, outputs, top, as_json)


def _check_top(top: int) -> None:
    if top < 1:
        fail(f"--top cannot be below 1: got {top}", 2)


def _run(job: Job, outputs: object, top: int, as_json: bool) -> None:
    from agent.commands.relation_job import Outputs, whole_json
    from agent.output.terminal.relation_page import show_scores
    from agent.output.terminal.relation_progress import output_console

    assert isinstance(outputs, Outputs)
    result = job.run()
    written = outputs.write(result, top=top)
    if as_json:
        echo_json(whole_json(result))
        return
    console = output_console()
    show_scores(console, result.scores, result.summaries(top), result.found, result.choice)
    for path in written:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


@_app.command("compare")
@reports_errors
def compare(
    one: Annotated[str, typer.Argument(metavar="A", help="A saved .json, or a model.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    source: Source = "auto",
    relations: Relations = None,
    threshold: Threshold = 0.15,
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Universality: which operations have heads in both models, and at which relative depth."""
    from dataclasses import asdict

    from agent.commands.relation_job import Job, saved_or_scored
    from agent.output.terminal.relation_page import show_comparison
    from agent.output.terminal.relation_progress import output_console
    from maps_engine.scores.head_structure import universality

    jobs = (Job(name, None, source, relations, threshold=threshold, device=device) for name in (one, other))
    first, second = (saved_or_scored(job) for job in jobs)
    rows = universality(first, second, threshold)
    if as_json:
        sides = [
            {"model": side.model, "fingerprint": side.fingerprint, "source": side.source} for side in (first, second)
        ]
        echo_json({"models": sides, "threshold": threshold, "relations": [asdict(row) for row in rows]})
    else:
        show_comparison(output_console(), (first, second), rows, threshold)


def map_relations_main() -> None:
    """Entry point of `map-relations`."""
    _app(prog_name="map-relations")
