"""Options that the commands of `check-faithfulness` share, and what they do before and after an experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.command_line import SOURCES, operations, words
from agent.commands.options import MOST_TARGETS
from agent.output.console import echo_json
from maps_engine.errors import UserMistake

if TYPE_CHECKING:
    from eval.faithfulness.bench import Bench
    from eval.faithfulness.correlation import PairLimits
    from eval.faithfulness.static_scores import StaticSetting
    from maps_engine.relations.format import Relation

_ENV = "HEADSCRIBE_"
Relations = Annotated[
    str | None,
    typer.Option(
        "--relations",
        help="Operations, comma-separated; `paper` for the paper's.",
        envvar=_ENV + "RELATIONS",
        autocompletion=operations,
    ),
]
Pairs = Annotated[
    Path | None, typer.Option("--pairs", help="A file of pairs or a folder of them, instead of the built-in ones.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for results; resumed where it holds some.", envvar=_ENV + "FAITHFULNESS"),
]
MaxPairs = Annotated[
    int, typer.Option("--max-pairs", min=0, help="Most pairs of an operation, 0 for all.", envvar=_ENV + "MAX_PAIRS")
]
MinPairs = Annotated[
    int, typer.Option("--min-pairs", min=2, help="One-token pairs an operation needs.", envvar=_ENV + "MIN_PAIRS")
]
K = Annotated[
    int | None,
    typer.Option("--k", min=1, max=MOST_TARGETS, help="Overrides each operation's own k.", envvar=_ENV + "K"),
]
Source = Annotated[
    str,
    typer.Option(
        "--source",
        help="first-mlp (the paper's), embedding, first-block or auto.",
        envvar=_ENV + "FAITHFULNESS_SOURCE",
        autocompletion=words(SOURCES),
    ),
]
Dtype = Annotated[
    str, typer.Option("--dtype", help="Of the running model: float32, bfloat16 or float16.", envvar=_ENV + "DTYPE")
]
Attention = Annotated[
    str, typer.Option("--attention", help="Of the running model: eager or sdpa.", envvar=_ENV + "ATTENTION")
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Prompts that run together.", envvar=_ENV + "BATCH")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Processor threads.", envvar=_ENV + "THREADS")]


@dataclass
class Run:
    """One command under way."""

    bench: Bench
    relations: Sequence[Relation]
    limits: PairLimits
    setting: StaticSetting

    def finish(self, kind: str, result: dict[str, Any], *, as_json: bool) -> None:
        """Store the table for the report and print it."""
        from eval.faithfulness.bench import added_cost
        from eval.faithfulness.report.text import table_text

        checkpoint, cost, identity = self.bench.checkpoint, self.bench.cost(), self.bench.running_identity(kind)
        before = self.bench.folder.stored(kind)
        if before is not None and before["identity"] == identity:
            cost = added_cost(cost, before["result"]["cost"])
        whole: dict[str, Any] = {
            "model": checkpoint.name,
            "fingerprint": checkpoint.fingerprint,
            "dtype": self.bench.dtype,
        }
        whole |= {"max_pairs": self.limits.max_pairs, "cost": cost, **result}
        written = self.bench.folder.write(kind, identity, whole)
        if as_json:
            echo_json(whole)
        else:
            typer.echo(table_text(kind, whole))
            typer.echo(f"stored in {written}")

    def say_written(self, written: Sequence[Path], *, as_json: bool) -> None:
        """Name the files that were written."""
        if as_json:
            echo_json({"written": [str(path) for path in written]})
        else:
            typer.echo("\n".join(f"wrote {path}" for path in written))


@contextmanager
def following(options: Mapping[str, Any]) -> Iterator[Run]:
    """Set up a run from a command's options, with a progress bar on standard error while it lasts."""
    from agent.output.console import quiet_libraries

    quiet_libraries()
    import torch

    from agent.output.terminal.stage_bars import progress_bars
    from eval.faithfulness.bench import Bench
    from eval.faithfulness.correlation import PairLimits
    from eval.faithfulness.static_scores import named_setting
    from maps_engine.results import EngineSettings

    if options.get("threads"):
        torch.set_num_threads(options["threads"])
    source = options.get("source", "first-mlp")
    settings = EngineSettings(
        source=source, fold_norms=options.get("fold_norms", False), fold_biases=options.get("fold_biases", False)
    )
    _check(source, options.get("dtype", "float32"), options.get("attention", "eager"))
    relations = _relations(options.get("relations"), options.get("pairs"))
    limits = PairLimits(options.get("max_pairs") or None, options.get("min_pairs", 30), options.get("k"))
    with progress_bars() as progress:
        bench = Bench.open(
            options["model"],
            options["out"] or Path(),
            device=options["device"],
            revision=options["revision"],
            dtype=options.get("dtype", "float32"),
            attention=options.get("attention", "eager"),
            batch=options.get("batch", 64),
            progress=progress,
        )
        if options["out"] is None:
            bench = _in_data_folder(bench)
        yield Run(bench, relations, limits, named_setting(settings))


def _check(source: str, dtype: str, attention: str) -> None:
    """Refuse unknown words before anything heavy is opened."""
    known = {
        "source representation": (source, SOURCES),
        "dtype": (dtype, ("float32", "bfloat16", "float16")),
        "attention": (attention, ("eager", "sdpa")),
    }
    for what, (got, expected) in known.items():
        if got not in expected:
            raise UserMistake(f"unknown {what}", got=got, expected=", ".join(expected))


def _relations(names: str | None, pairs: Path | None) -> Sequence[Relation]:
    from maps_engine.relations.catalogue import load_relations, read_pairs

    if pairs is None and names == "paper":
        return tuple(one for one in load_relations() if one.paper)
    wanted = [name.strip() for name in names.split(",") if name.strip()] if names else None
    if wanted == []:
        raise UserMistake("--relations names no operation", got=names, expected="names with commas between them")
    return load_relations(wanted) if pairs is None else _among(read_pairs(pairs), wanted)


def _among(own: Sequence[Relation], wanted: Sequence[str] | None) -> Sequence[Relation]:
    """The user's own operations, or those of `wanted` alone."""
    known = [one.name for one in own]
    unknown = [name for name in wanted or () if name not in known]
    if unknown:
        raise UserMistake("no such operation in --pairs", got=", ".join(unknown), expected=", ".join(sorted(known)))
    return own if wanted is None else tuple(one for one in own if one.name in wanted)


def _in_data_folder(bench: Bench) -> Bench:
    from eval.results_folder import ResultsFolder
    from maps_engine.folders import data_folder

    bench.folder = ResultsFolder(data_folder() / "faithfulness" / bench.checkpoint.fingerprint[:12])
    return bench
