"""Options of `headscribe check`, each group with what it makes of them; unknown words are refused before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from agent.commands.command_line import OptionGroup
from agent.commands.completion import SOURCES, operations, words
from agent.commands.options import MOST_TARGETS, CheckpointOptions, Database, FoldBiases, FoldNorms, source_option
from maps_engine.errors import UserMistake

if TYPE_CHECKING:
    from eval.faithfulness.attention.texts import Text
    from eval.faithfulness.correlation import PairLimits
    from eval.faithfulness.static_scores import StaticSetting
    from maps_engine.relations.format import Relation

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for results; resumed where it holds some.", envvar="HEADSCRIBE_FAITHFULNESS"),
]
FEWEST_PAIRS = 30
NEW_PAIRS = (10, 60)  # of a description: the fewest that its test needs, and the most that it uses
MOST_OF_TEXTS = 8192  # `texts.MAX_TOKENS`, which is not imported for a help page
TEMPLATES = ("paper", "own", "both")  # the keys of `templates.TEMPLATE_SETS`, which is not imported for a help page


@dataclass(frozen=True)
class OperationOptions(OptionGroup):
    """The operations of an experiment, and how many of their pairs are run."""

    title: ClassVar[str] = "Operations"
    relations: Annotated[
        str | None,
        typer.Option(
            "--relations",
            help="Operations, comma-separated; `paper` for the paper's.",
            envvar="HEADSCRIBE_RELATIONS",
            autocompletion=operations,
        ),
    ] = None
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="A file of pairs or a folder of them, instead of the built-in ones.")
    ] = None
    max_pairs: Annotated[
        int,
        typer.Option(
            "--max-pairs", min=0, help="Most pairs of an operation, 0 for all.", envvar="HEADSCRIBE_MAX_PAIRS"
        ),
    ] = 100

    def chosen(self) -> Sequence[Relation]:
        """The operations themselves. Raises UserMistake for a name that there is not, UnknownRelation alike."""
        from maps_engine.relations.catalogue import load_relations, read_pairs

        if self.pairs is None and self.relations == "paper":
            return tuple(one for one in load_relations() if one.paper)
        wanted = _names(self.relations) if self.relations else None
        return load_relations(wanted) if self.pairs is None else _among(read_pairs(self.pairs), wanted)

    def limits(self) -> PairLimits:
        """How many pairs are run, and from how many on an operation counts."""
        from eval.faithfulness.correlation import PairLimits

        return PairLimits(self.max_pairs or None)


@dataclass(frozen=True)
class CorrelationOptions(OperationOptions):
    """The same for correlations over heads, which need enough pairs."""

    min_pairs: Annotated[
        int,
        typer.Option("--min-pairs", min=2, help="One-token pairs an operation needs.", envvar="HEADSCRIBE_MIN_PAIRS"),
    ] = FEWEST_PAIRS
    k: Annotated[
        int | None,
        typer.Option("--k", min=1, max=MOST_TARGETS, help="Overrides each operation's own k.", envvar="HEADSCRIBE_K"),
    ] = None
    templates: Annotated[
        str,
        typer.Option(
            "--templates",
            help="Prompts: the paper's four, four of our own that share no word with them, or both.",
            envvar="HEADSCRIBE_TEMPLATES",
            autocompletion=words(TEMPLATES),
        ),
    ] = "paper"

    def __post_init__(self) -> None:
        """Raises UserMistake for templates that there are not."""
        _known("set of templates", self.templates, TEMPLATES)

    def limits(self) -> PairLimits:
        """With the fewest pairs and the k that were asked for."""
        from eval.faithfulness.correlation import PairLimits

        return PairLimits(self.max_pairs or None, self.min_pairs, self.k)

    def prompts(self) -> tuple[str, ...]:
        """The templates themselves."""
        from eval.faithfulness.running.templates import TEMPLATE_SETS

        return TEMPLATE_SETS[self.templates]


@dataclass(frozen=True)
class SettingsOptions(CorrelationOptions):
    """The same where settings of the engine are compared, and more to compare than the fixed ones."""

    lead_in: Annotated[
        list[str] | None,
        typer.Option(
            "--lead-in",
            help="Also residual behind this text. Repeatable: each, and the mean over all.",
            show_default="the start of texts alone",
        ),
    ] = None
    several_tokens: Annotated[
        bool, typer.Option("--several-tokens", help="Also sources of several tokens, which takes more forward passes.")
    ] = False


def _names(text: str) -> list[str]:
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if not wanted:
        raise UserMistake("--relations names no operation", got=text, expected="names with commas between them")
    return wanted


def _among(own: Sequence[Relation], wanted: Sequence[str] | None) -> Sequence[Relation]:
    """The user's own operations, or those of `wanted` alone."""
    known = [one.name for one in own]
    unknown = [name for name in wanted or () if name not in known]
    if unknown:
        raise UserMistake("no such operation in --pairs", got=", ".join(unknown), expected=", ".join(sorted(known)))
    return own if wanted is None else tuple(one for one in own if one.name in wanted)


@dataclass(frozen=True)
class WeightsOptions(OptionGroup):
    """How scores are read from the weights."""

    title: ClassVar[str] = "Scores from weights"
    source: Annotated[
        str,
        source_option("residual, first-mlp (paper) or embedding.", variable="HEADSCRIBE_FAITHFULNESS_SOURCE"),
    ] = "residual"
    fold_norms: FoldNorms = False
    fold_biases: FoldBiases = False

    def __post_init__(self) -> None:
        """Raises UserMistake for a source that there is not."""
        _known("source representation", self.source, [one for one in SOURCES if one != "auto"])

    def setting(self) -> StaticSetting:
        """Under the name that the comparison of settings gives it."""
        from eval.faithfulness.static_scores import named_setting
        from maps_engine.results import EngineSettings

        return named_setting(
            EngineSettings(source=self.source, fold_norms=self.fold_norms, fold_biases=self.fold_biases)
        )


@dataclass(frozen=True)
class ChoiceOptions(WeightsOptions):
    """The same where heads are chosen by their scores, and whose choice theirs is compared with."""

    against: Annotated[
        str,
        typer.Option(
            "--against",
            help="Also remove as many heads as this source chooses, and compare; `none` does without.",
            envvar="HEADSCRIBE_FAITHFULNESS_AGAINST",
            autocompletion=words(("none", *SOURCES[1:])),
        ),
    ] = "first-mlp"

    def __post_init__(self) -> None:
        """Raises UserMistake for a source that there is not."""
        super().__post_init__()
        _known("source representation", self.against, ["none", *(one for one in SOURCES if one != "auto")])

    def compared(self) -> StaticSetting | None:
        """The setting compared with, folded as the other; None where there is none, or where it is the same."""
        if self.against == "none":
            return None
        other = replace(self, source=self.against).setting()
        return None if other == self.setting() else other


@dataclass(frozen=True)
class RunningOptions(CheckpointOptions):
    """The model whose weights are read, and how the same model runs."""

    dtype: Annotated[
        str,
        typer.Option("--dtype", help="Of the running model: float32, bfloat16 or float16.", envvar="HEADSCRIBE_DTYPE"),
    ] = "float32"
    attention: Annotated[
        str,
        typer.Option("--attention", help="Of the running model: eager or sdpa.", envvar="HEADSCRIBE_ATTENTION"),
    ] = "eager"
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Prompts that run together.", envvar="HEADSCRIBE_BATCH")
    ] = 64
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processor threads.", envvar="HEADSCRIBE_THREADS")
    ] = None

    def __post_init__(self) -> None:
        """Raises UserMistake for a dtype or an attention that there is not."""
        _known("dtype", self.dtype, ("float32", "bfloat16", "float16"))
        _known("attention", self.attention, ("eager", "sdpa"))


@dataclass(frozen=True)
class TextOptions(OptionGroup):
    """The texts that the model is run on."""

    title: ClassVar[str] = "Texts"
    text: Annotated[
        list[Path] | None,
        typer.Option(
            "--text", help="A file in UTF-8. Repeatable.", show_default="prose and code that come with the package"
        ),
    ] = None
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Most tokens of all texts together.")] = (
        MOST_OF_TEXTS
    )

    def chosen(self) -> Sequence[Text]:
        """The texts themselves. Raises UserMistake for a file that cannot be read."""
        from eval.faithfulness.attention.texts import shipped_texts, text_files

        return text_files(self.text) if self.text else shipped_texts()


@dataclass(frozen=True)
class StoredRunOptions(OptionGroup):
    """The run whose heads are looked at."""

    title: ClassVar[str] = "Run"
    run: Annotated[
        int | None, typer.Option("--run", help="Run of label-heads. [default: the newest finished one of the model]")
    ] = None
    database: Database = None


@dataclass(frozen=True)
class RunOptions(StoredRunOptions):
    """The run whose names are checked."""

    max_pairs: Annotated[
        int,
        typer.Option("--max-pairs", min=NEW_PAIRS[0], help="Most new pairs of a name."),
    ] = NEW_PAIRS[1]


def _known(what: str, got: str, expected: Sequence[str]) -> None:
    if got not in expected:
        raise UserMistake(f"unknown {what}", got=got, expected=", ".join(expected))
