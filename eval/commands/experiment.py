"""What the commands of `headscribe check` do before and after an experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import typer

from agent.commands.options import CheckpointOptions
from agent.output.console import echo_json
from agent.output.terminal.stage_progress import stage_bars
from eval.commands.check_options import RunningOptions
from eval.faithfulness.bench import Bench, added_cost
from eval.faithfulness.report.text import table_text
from eval.faithfulness.running.templates import OTHER_PROMPTS, TEMPLATES, templates_text
from eval.results_folder import ResultsFolder
from maps_engine.folders import data_folder


@contextmanager
def running_bench(
    options: RunningOptions, out: Path | None, *, templates: tuple[str, ...] = TEMPLATES
) -> Iterator[Bench]:
    """The model for an experiment, with a bar on standard error for each stage. Raises what `Bench.open` raises."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with stage_bars() as progress:
        bench = Bench.open(
            options.model,
            out or Path(),
            device=options.device,
            revision=options.revision,
            dtype=options.dtype,
            attention=options.attention,
            batch=options.batch,
            templates=templates,
            progress=progress,
        )
        bench.folder = _folder(bench, out)
        yield bench


def opened_results(options: CheckpointOptions, out: Path | None) -> Bench:
    """The model and its folder alone: nothing is run. Raises what `Bench.open` raises."""
    bench = Bench.open(options.model, out or Path(), device=options.device, revision=options.revision)
    bench.folder = _folder(bench, out)
    return bench


def _folder(bench: Bench, out: Path | None) -> ResultsFolder:
    if out is not None:
        return bench.folder
    return ResultsFolder(data_folder() / "faithfulness" / bench.checkpoint.fingerprint[:12])


def finish(
    bench: Bench,
    kind: str,
    result: dict[str, Any],
    *,
    max_pairs: int | None,
    as_json: bool,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Store the table for the report and print it; the cost of a run that went on is that of all its parts.

    about: what else makes a run the same one. Its templates stand beside it, but for experiments with prompts of their
    own.
    """
    cost, identity = bench.cost(), bench.running_identity(kind, **(about or {}))
    before = bench.folder.stored(kind)
    if before is not None and before["identity"] == identity:
        cost = added_cost(cost, before["result"]["cost"])
    checkpoint = bench.checkpoint
    model: dict[str, Any] = {"model": checkpoint.name, "fingerprint": checkpoint.fingerprint, "dtype": bench.dtype}
    prompts = {} if kind in OTHER_PROMPTS else {"templates": list(bench.templates)}
    whole = model | {"max_pairs": max_pairs, "cost": cost, **prompts, **result}
    written = bench.folder.write(kind, identity, whole)
    if as_json:
        echo_json(whole)
    else:
        typer.echo(table_text(kind, whole))
        if prompts:
            typer.echo(f"templates, {templates_text(bench.templates)}")
        typer.echo(f"stored in {written}")
