"""`map-relations`: which heads do which operation. Heavy imports stay inside handlers, so that --help is instant."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from agent.commands.command_line import OptionGroup, Version, command, command_line, main_command
from agent.commands.completion import operations
from agent.commands.options import MOST_TARGETS, AsJson, CheckpointOptions, Device, LeadIn, source_option
from agent.output.console import echo_json, fail

if TYPE_CHECKING:
    from agent.output.relation_outputs import Outputs
    from maps_engine.scores.job import Job

app = command_line(help="Which heads of a model implement, or suppress, which operations.")

Source = Annotated[
    str, source_option("What heads read: auto (residual where it can be), residual, first-mlp (paper) or embedding.")
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
Threshold = Annotated[
    float,
    typer.Option("--threshold", envvar="HEADSCRIBE_THRESHOLD", help="Score from which a head implements an operation."),
]


@dataclass(frozen=True)
class ScoringOptions(OptionGroup):
    """What is scored, and how."""

    title: ClassVar[str] = "Scores"
    relations: Relations = None
    pairs: Annotated[
        list[Path] | None,
        typer.Option("--pairs", help="Own pairs: JSON, JSON lines, CSV or TSV file, or a folder. Repeatable."),
    ] = None
    source: Source = "auto"
    lead_in: LeadIn = None
    k: Annotated[
        int | None,
        typer.Option("--k", max=MOST_TARGETS, envvar="HEADSCRIBE_K", help="Length of the lists. [default: relation's]"),
    ] = None
    min_pairs: Annotated[
        int,
        typer.Option("--min-pairs", envvar="HEADSCRIBE_MIN_PAIRS", help="Fewest one-token pairs that are scored."),
    ] = 30
    target: Annotated[
        str,
        typer.Option("--target", envvar="HEADSCRIBE_TARGET", help="single, or first-token of longer targets."),
    ] = "single"
    threshold: Threshold = 0.15

    def job(self, checkpoint: CheckpointOptions) -> Job:
        """The work that these options ask for."""
        from maps_engine.scores.job import Job

        return Job(
            checkpoint.model,
            checkpoint.revision,
            self.source,
            self.relations,
            tuple(self.pairs or ()),
            self.k,
            self.min_pairs,
            self.target,
            self.threshold,
            checkpoint.device,
            tuple(self.lead_in or ("",)),
        )


@dataclass(frozen=True)
class FileOptions(OptionGroup):
    """Files to write beside the page."""

    title: ClassVar[str] = "Files"
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all scores as CSV.")] = None
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write all scores as Parquet.")] = None
    figures: Annotated[Path | None, typer.Option("--figures", help="Folder for the figures.")] = None
    figure_format: Annotated[str, typer.Option("--format", help="Of the figures: png or svg.")] = "png"
    report: Annotated[Path | None, typer.Option("--report", help="Write one self-contained HTML file.")] = None
    save: Annotated[Path | None, typer.Option("--save", help="Write the JSON, for compare.")] = None

    def outputs(self) -> Outputs:
        """The same, as the writer of files takes it."""
        from agent.output.relation_outputs import Outputs

        return Outputs(self.csv, self.parquet, self.figures, self.figure_format, self.report, self.save)


@main_command(app)
def map_relations(
    context: typer.Context,
    checkpoint: CheckpointOptions,
    scoring: ScoringOptions,
    files: FileOptions,
    top: Annotated[int, typer.Option("--top", envvar="HEADSCRIBE_TOP", help="Best heads listed an operation.")] = 3,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """Score every operation on every head: best heads, suppressors, and how far each could be chance."""
    if context.invoked_subcommand is not None:
        return
    job, outputs = scoring.job(checkpoint), files.outputs()
    if top < 1:
        fail(f"--top cannot be below 1: got {top}", 2)
    outputs.check()
    _run(job, outputs, top, as_json)


def _run(job: Job, outputs: Outputs, top: int, as_json: bool) -> None:
    from agent.output.relation_outputs import whole_json
    from agent.output.terminal.relation_page import show_scores
    from agent.output.terminal.relation_progress import layer_bar, output_console

    result = job.run(bar=layer_bar)
    written = outputs.write(result, top=top)
    if as_json:
        echo_json(whole_json(result))
        return
    console = output_console()
    show_scores(console, result.scores, result.summaries(top), result.found)
    for path in written:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


@command(app, "compare")
def compare(
    one: Annotated[str, typer.Argument(metavar="A", help="A saved .json, or a model.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    source: Source = "auto",
    relations: Relations = None,
    threshold: Threshold = 0.15,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Universality: which operations have heads in both models, and at which relative depth."""
    from agent.output.terminal.relation_page import show_comparison
    from agent.output.terminal.relation_progress import layer_bar, output_console
    from maps_engine.scores.head_structure import universality
    from maps_engine.scores.job import Job, saved_or_scored

    jobs = (Job(name, None, source, relations, threshold=threshold, device=device) for name in (one, other))
    first, second = (saved_or_scored(job, bar=layer_bar) for job in jobs)
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
    app(prog_name="map-relations")
