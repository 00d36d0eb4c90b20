"""`check-faithfulness`: the paper's experiments on the user's own model. Heavy imports stay inside the handlers."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.commands.command_line import Version, command_line
from agent.commands.options import AsJson, Debug, Device, FoldBiases, FoldNorms, Model, Revision
from agent.output.console import reports_errors
from eval.commands.check_options import (
    Attention,
    Batch,
    Dtype,
    K,
    MaxPairs,
    MinPairs,
    Out,
    Pairs,
    Relations,
    Source,
    Threads,
    following,
)

_app = command_line(no_args_is_help=True)


@_app.callback()
def _main(version: Version = False) -> None:
    """Do the scores read from weights agree with what heads do when the model runs?"""


@_app.command()
@reports_errors
def correlation(
    model: Model = "smollm2-135m",
    relations: Relations = None,
    pairs: Pairs = None,
    out: Out = None,
    max_pairs: MaxPairs = 100,
    min_pairs: MinPairs = 30,
    k: K = None,
    source: Source = "first-mlp",
    fold_norms: FoldNorms = False,
    fold_biases: FoldBiases = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    attention: Attention = "eager",
    batch: Batch = 64,
    threads: Threads = None,
    revision: Revision = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Correlate scores from weights with scores at inference, with and without context, over all heads."""
    with following(locals()) as run:
        from eval.faithfulness.correlation import correlation as experiment

        table = experiment(run.bench, run.relations, run.limits, setting=run.setting)
        run.finish("correlation", table.to_json(), as_json=as_json)


@_app.command("multi-token")
@reports_errors
def multi_token(
    model: Model = "smollm2-135m",
    relations: Relations = None,
    pairs: Pairs = None,
    out: Out = None,
    max_pairs: MaxPairs = 100,
    min_pairs: MinPairs = 30,
    min_several: Annotated[int, typer.Option(min=1, help="Sources of several tokens that an operation needs.")] = 10,
    k: K = None,
    source: Source = "first-mlp",
    fold_norms: FoldNorms = False,
    fold_biases: FoldBiases = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    attention: Attention = "eager",
    batch: Batch = 64,
    threads: Threads = None,
    revision: Revision = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """The same for sources of several tokens, the last of which is read."""
    with following(locals()) as run:
        from eval.faithfulness.correlation import multi_token as experiment

        table = experiment(run.bench, run.relations, run.limits, setting=run.setting, min_several=min_several)
        run.finish("multi-token", table.to_json(), as_json=as_json)


@_app.command()
@reports_errors
def causal(
    model: Model = "smollm2-135m",
    relations: Relations = None,
    pairs: Pairs = None,
    out: Out = None,
    max_pairs: MaxPairs = 100,
    tau: Annotated[float, typer.Option(min=0.0, max=1.0, help="Score from which on a head is the operation's.")] = 0.15,
    source: Source = "first-mlp",
    fold_norms: FoldNorms = False,
    fold_biases: FoldBiases = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    attention: Attention = "eager",
    batch: Batch = 64,
    threads: Threads = None,
    revision: Revision = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove an operation's heads and see what the model can no longer do."""
    with following(locals()) as run:
        from eval.faithfulness.causal import causal as experiment
        from eval.faithfulness.running.few_shot import prompts_for

        shots = prompts_for([one.name for one in run.relations] if relations else None)
        table = experiment(
            run.bench, run.relations, shots, max_pairs=run.limits.max_pairs, setting=run.setting, tau=tau
        )
        run.finish("causal", table.to_json(), as_json=as_json)


@_app.command("compare-settings")
@reports_errors
def compare_settings(
    model: Model = "smollm2-135m",
    relations: Relations = None,
    pairs: Pairs = None,
    out: Out = None,
    max_pairs: MaxPairs = 100,
    min_pairs: MinPairs = 30,
    k: K = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    attention: Attention = "eager",
    batch: Batch = 64,
    threads: Threads = None,
    revision: Revision = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Which of the engine's choices reads best: mean correlation over operations."""
    with following(locals()) as run:
        from eval.faithfulness.settings_comparison import compare_settings as experiment

        run.finish("compare-settings", experiment(run.bench, run.relations, run.limits).to_json(), as_json=as_json)


@_app.command()
@reports_errors
def report(
    model: Model = "smollm2-135m",
    out: Out = None,
    device: Device = "auto",
    revision: Revision = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write report.html and report.md from what the other commands left in --out; runs nothing."""
    with following(locals()) as run:
        from eval.faithfulness.report.report import write_report

        written = write_report(run.bench.folder, run.bench.checkpoint)
        run.say_written(written, as_json=as_json)


def check_faithfulness_main() -> None:
    """Entry point of `check-faithfulness`."""
    _app(prog_name="check-faithfulness")
