"""`headscribe check`: the paper's experiments on the user's own model. Heavy imports stay inside the handlers."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from agent.commands.command_line import command, group_of_commands, say
from agent.commands.options import AsJson, CheckpointOptions
from eval.commands.check_options import (
    ChoiceOptions,
    CorrelationOptions,
    OperationOptions,
    Out,
    RunningOptions,
    RunOptions,
    SettingsOptions,
    StoredRunOptions,
    TextOptions,
    WeightsOptions,
)

app = group_of_commands("Do the scores read from weights agree with what heads do when the model runs?")


@command(app, "correlation")
def correlation(
    running: RunningOptions,
    operations: CorrelationOptions,
    weights: WeightsOptions,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Correlate scores from weights with scores at inference, with and without context, over all heads."""
    from eval.commands.experiment import finish, running_bench
    from eval.faithfulness.correlation import correlation as experiment

    relations, limits, setting = operations.chosen(), operations.limits(), weights.setting()
    with running_bench(running, out, templates=operations.prompts()) as bench:
        table = experiment(bench, relations, limits, setting=setting)
        finish(bench, "correlation", table.to_json(), max_pairs=limits.max_pairs, as_json=as_json)


@command(app, "multi-token")
def multi_token(
    running: RunningOptions,
    operations: CorrelationOptions,
    weights: WeightsOptions,
    min_several: Annotated[int, typer.Option(min=1, help="Sources of several tokens that an operation needs.")] = 10,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """The same for sources of several tokens, the last of which is read."""
    from eval.commands.experiment import finish, running_bench
    from eval.faithfulness.correlation import multi_token as experiment

    relations, limits, setting = operations.chosen(), operations.limits(), weights.setting()
    with running_bench(running, out, templates=operations.prompts()) as bench:
        table = experiment(bench, relations, limits, setting=setting, min_several=min_several)
        finish(bench, "multi-token", table.to_json(), max_pairs=limits.max_pairs, as_json=as_json)


@command(app, "causal")
def causal(
    running: RunningOptions,
    operations: OperationOptions,
    weights: ChoiceOptions,
    tau: Annotated[float, typer.Option(min=0.0, max=1.0, help="Score from which on a head is the operation's.")] = 0.15,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Remove an operation's heads and see what the model can no longer do."""
    from eval.commands.experiment import finish, running_bench
    from eval.faithfulness.causal import causal as experiment
    from eval.faithfulness.running.few_shot import prompts_for

    relations, max_pairs, setting = operations.chosen(), operations.limits().max_pairs, weights.setting()
    shots = prompts_for([one.name for one in relations] if operations.relations else None)
    with running_bench(running, out) as bench:
        against = weights.compared()
        table = experiment(bench, relations, shots, max_pairs=max_pairs, setting=setting, against=against, tau=tau)
        finish(bench, "causal", table.to_json(), max_pairs=max_pairs, as_json=as_json)


@command(app, "compare-settings")
def compare_settings(
    running: RunningOptions,
    operations: SettingsOptions,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Which of the engine's choices reads best: mean correlation over operations."""
    from eval.commands.experiment import finish, running_bench
    from eval.faithfulness.settings_comparison import compare_settings as experiment

    relations, limits = operations.chosen(), operations.limits()
    with running_bench(running, out, templates=operations.prompts()) as bench:
        table = experiment(
            bench,
            relations,
            limits,
            lead_ins=operations.lead_in or (),
            several_tokens=operations.several_tokens,
        )
        finish(bench, "compare-settings", table.to_json(), max_pairs=limits.max_pairs, as_json=as_json)


@command(app, "final-logits")
def final_logits(
    running: RunningOptions,
    operations: OperationOptions,
    heads: Annotated[int, typer.Option(min=1, help="Heads of each choice: by residual, by the paper, at random.")] = 5,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Put what heads write into the running model: do its own final logits say the target?"""
    from eval.commands.experiment import finish, running_bench
    from eval.faithfulness.final_logits.experiment import KIND
    from eval.faithfulness.final_logits.experiment import final_logits as experiment

    relations, limits = operations.chosen(), operations.limits()
    with running_bench(running, out) as bench:
        table = experiment(bench, relations, limits, heads=heads)
        about = {"heads": heads}
        finish(bench, KIND, table.to_json(), max_pairs=limits.max_pairs, as_json=as_json, about=about)


@command(app, "descriptions")
def descriptions(
    running: RunningOptions,
    names: RunOptions,
    projection: Annotated[
        Literal["folded", "plain"],
        typer.Option(help="Of what heads write: behind the final norm's gain, as the model does, or the paper's U."),
    ] = "folded",
    each_operation: Annotated[
        bool, typer.Option("--each-operation", help="Check every operation of a head, not its name alone.")
    ] = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Are the names that a stored run gave its heads true of the running model? How many heads were not found?"""
    from agent.runs.database import open_database
    from eval.commands.experiment import finish, running_bench
    from eval.faithfulness.descriptions.true_names import check_names

    engine = open_database(names.database)
    with running_bench(running, out) as bench:
        table = check_names(
            bench,
            engine,
            names.run,
            max_pairs=names.max_pairs,
            projection=projection,
            each_operation=each_operation,
        )
        about = {"run": table.run, "max_pairs": names.max_pairs, "projection": projection, "each": each_operation}
        finish(bench, "descriptions", table.to_json(), max_pairs=names.max_pairs, as_json=as_json, about=about)


@command(app, "parts")
def parts(
    running: RunningOptions,
    names: StoredRunOptions,
    directions: Annotated[int, typer.Option(min=1, help="Of each part that is taken out.")] = 1,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Take one part out of a head: does that hurt its operation, and leave the head's other operations?"""
    from agent.runs.database import open_database
    from eval.commands.experiment import finish, running_bench
    from eval.faithfulness.parts.experiment import KIND, parts_removed

    engine = open_database(names.database)
    with running_bench(running, out) as bench:
        table = parts_removed(bench, engine, names.run, directions=directions)
        about = {"run": table["run"], "directions": directions}
        finish(bench, KIND, table, max_pairs=None, as_json=as_json, about=about)


@command(app, "null-heads")
def null_heads(
    running: RunningOptions,
    seed: Annotated[int, typer.Option(min=0, help="Of the null heads.")] = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How often does the lexical describer name a head that does nothing? Nothing is stored but the rates."""
    from eval.commands.experiment import finish, running_bench
    from eval.faithfulness.null_heads import KIND
    from eval.faithfulness.null_heads import null_heads as experiment

    with running_bench(running, out) as bench:
        finish(bench, KIND, experiment(bench, seed=seed), max_pairs=None, as_json=as_json, about={"seed": seed})


@command(app, "attention")
def attention(
    running: RunningOptions,
    texts: TextOptions,
    seed: Annotated[int, typer.Option(min=0, help="Of the null heads.")] = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Do heads of the running model look where their weights say: over heads, from class to class, over keys?"""
    from eval.commands.experiment import finish, running_bench
    from eval.faithfulness.attention.experiment import attention as experiment
    from eval.faithfulness.attention.readings import KIND

    chosen = texts.chosen()
    with running_bench(running, out) as bench:
        table = experiment(bench, chosen, max_tokens=texts.max_tokens, seed=seed)
        about = {"texts": [one.digest for one in chosen], "max_tokens": texts.max_tokens, "seed": seed}
        finish(bench, KIND, table.to_json(), max_pairs=None, as_json=as_json, about=about)


@command(app, "report")
def report(checkpoint: CheckpointOptions, out: Out = None, as_json: AsJson = False) -> None:
    """Write report.html and report.md from what the other commands left in --out; runs nothing."""
    from eval.commands.experiment import opened_results
    from eval.faithfulness.report.report import write_report

    bench = opened_results(checkpoint, out)
    written = [str(path) for path in write_report(bench.folder, bench.checkpoint)]
    say(*(f"wrote {path}" for path in written), value={"written": written}, as_json=as_json)
