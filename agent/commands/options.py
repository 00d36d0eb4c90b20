"""Options that several commands share, written once so that they mean and say the same everywhere.

Those that belong together are a group (`command_line.OptionGroup`) with the method that makes of them what the rooms
below take; those that stand alone are annotations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

import typer

from agent.commands.command_line import OptionGroup
from agent.commands.completion import DEVICES, SOURCES, models, words
from agent.describers.factory import BEGINNINGS, NAMES, chosen_name
from agent.llm.options import (
    MAX_REVISIONS,
    MAX_TOKENS,
    NAMED_PARTS,
    TIMEOUT,
    Mode,
    ModelOptions,
    cache_wanted,
    checked,
    parse_price,
)

if TYPE_CHECKING:
    from maps_engine.results import EngineSettings

DEFAULT_MODEL = "smollm2-135m"
MOST_TOKENS = 5000  # salient tokens: beyond that nothing is read any more, and a list takes minutes
MOST_TARGETS = 1000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Database = Annotated[
    str | None,
    typer.Option("--database", help="SQLite file or postgresql:// address.", envvar="HEADSCRIBE_DATABASE"),
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store-url", help="Chroma server instead of the data folder.", envvar="HEADSCRIBE_CHROMA_URL"),
]
Layers = Annotated[str | None, typer.Option("--layers", help="Such as 0-11,20. [default: all]")]
Heads = Annotated[str | None, typer.Option("--heads", help="Of each layer, such as 0,3-5. [default: all]")]
Workers = Annotated[
    int,
    typer.Option("--workers", min=1, help="Requests to a language model in flight.", envvar="HEADSCRIBE_WORKERS"),
]
Device = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda or mps.", envvar="HEADSCRIBE_DEVICE", autocompletion=words(DEVICES)),
]
Devices = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, mps, or several: cuda:0,cuda:1.",
        envvar="HEADSCRIBE_DEVICE",
        autocompletion=words(DEVICES),
    ),
]
FoldNorms = Annotated[bool, typer.Option("--fold-norms", help="Fold norm gains into the map.")]
FoldBiases = Annotated[bool, typer.Option("--fold-biases", help="Fold biases (and norms) into the map.")]

LeadIn = Annotated[
    list[str] | None,
    typer.Option(
        "--lead-in",
        help="Read before each token, after the start of texts. Repeatable: the mean of what is read.",
        show_default="the start of texts alone",
    ),
]


def source_option(help_text: str, *, variable: str = "HEADSCRIBE_SOURCE") -> typer.models.OptionInfo:
    """`--source`, whose meaning differs among commands: over heads, over operations, of an experiment."""
    return cast(
        typer.models.OptionInfo,
        typer.Option("--source", help=help_text, envvar=variable, autocompletion=words(SOURCES)),
    )


@dataclass(frozen=True)
class CheckpointOptions(OptionGroup):
    """Whose weights are read, and where they are computed with."""

    title: ClassVar[str] = "Model"
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="Built-in alias, hub id, local folder or GGUF file.",
            envvar="HEADSCRIBE_MODEL",
            autocompletion=models,
        ),
    ] = DEFAULT_MODEL
    revision: Annotated[
        str | None, typer.Option("--revision", help="Revision of a hub id.", envvar="HEADSCRIBE_REVISION")
    ] = None
    device: Device = "auto"


@dataclass(frozen=True)
class SeveralDevices(CheckpointOptions):
    """The same on more than one device at once."""

    device: Devices = "auto"


@dataclass(frozen=True)
class ReadingOptions(OptionGroup):
    """How a head is read."""

    title: ClassVar[str] = "Reading a head"
    source: Annotated[
        str, source_option("What heads read: auto (best that fits), residual, first-mlp (paper) or embedding.")
    ] = "auto"
    lead_in: LeadIn = None
    words: Annotated[
        int | None,
        typer.Option(
            "--words",
            min=0,
            help="Salient tokens are looked for among so many ordinary words; 0: among all tokens.",
            show_default="by --source auto, else all",
        ),
    ] = None
    top: Annotated[int, typer.Option("--top", min=1, max=MOST_TOKENS, help="How many salient tokens.")] = 30
    targets: Annotated[int, typer.Option("--targets", min=1, max=MOST_TARGETS, help="How many targets of each.")] = 5
    normal_tokens_only: Annotated[
        bool, typer.Option("--normal-tokens-only", help="Leave special, byte and unused tokens out.")
    ] = False
    fold_norms: FoldNorms = False
    fold_biases: FoldBiases = False

    def settings(self) -> EngineSettings:
        """What the engine takes."""
        from maps_engine.results import EngineSettings

        return EngineSettings(
            source=self.source,
            fold_norms=self.fold_norms,
            fold_biases=self.fold_biases,
            include_special=not self.normal_tokens_only,
            top=self.top,
            targets=self.targets,
            words=self.words,
            lead_in=tuple(self.lead_in or ("",)),
        )


@dataclass(frozen=True)
class DescriberOptions(OptionGroup):
    """Who names what a head does."""

    title: ClassVar[str] = "Describer"
    describer: Annotated[
        str,
        typer.Option("--describer", help=f"{NAMES}.", envvar="HEADSCRIBE_DESCRIBER", autocompletion=words(BEGINNINGS)),
    ] = "auto"
    max_revisions: Annotated[
        int,
        typer.Option(
            "--max-revisions",
            min=0,
            max=5,
            help="How often a language model may revise a description after its trial.",
            envvar="HEADSCRIBE_MAX_REVISIONS",
        ),
    ] = MAX_REVISIONS
    name_parts: Annotated[
        int,
        typer.Option(
            "--name-parts",
            min=0,
            max=8,
            help="How many parts of a head, the largest, a language model is asked to name one by one. "
            "Costs one reply a head, and one more for each name in words of its own; 0: none.",
            envvar="HEADSCRIBE_NAME_PARTS",
        ),
    ] = NAMED_PARTS
    attention: Annotated[
        bool,
        typer.Option(
            help="Read what heads attend to as well, by queries and keys: once for a model, then kept in the cache.",
            envvar="HEADSCRIBE_READ_ATTENTION",
        ),
    ] = True
    counted: Annotated[
        bool,
        typer.Option(
            help="Where its test does not support what a language model says, take the first counted claim that "
            "is supported, as the lexical describer makes them.",
            envvar="HEADSCRIBE_COUNTED",
        ),
    ] = True

    @property
    def name(self) -> str:
        """The describer, `auto` resolved."""
        return chosen_name(self.describer)


@dataclass(frozen=True)
class LanguageModelOptions(OptionGroup):
    """How a language model is asked: limits, budgets, form of the request. None means no limit."""

    title: ClassVar[str] = "Language model"
    requests_per_minute: Annotated[
        int | None,
        typer.Option(
            "--requests-per-minute", help="At most, to a language model.", envvar="HEADSCRIBE_REQUESTS_PER_MINUTE"
        ),
    ] = None
    tokens_per_minute: Annotated[
        int | None,
        typer.Option("--tokens-per-minute", help="At most, read and written.", envvar="HEADSCRIBE_TOKENS_PER_MINUTE"),
    ] = None
    token_budget: Annotated[
        int | None,
        typer.Option("--token-budget", help="Stop before a run takes more tokens.", envvar="HEADSCRIBE_TOKEN_BUDGET"),
    ] = None
    budget: Annotated[
        float | None,
        typer.Option("--budget", help="Stop before a run costs more, by --price.", envvar="HEADSCRIBE_BUDGET"),
    ] = None
    price: Annotated[
        str | None,
        typer.Option(
            "--price",
            help="Of a million tokens read and written, such as 2.5,10: shows the cost.",
            envvar="HEADSCRIBE_PRICE",
        ),
    ] = None
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", help="Of one reply of a language model.", envvar="HEADSCRIBE_MAX_TOKENS")
    ] = MAX_TOKENS
    tool_calls: Annotated[
        int | None,
        typer.Option(
            "--tool-calls",
            min=0,
            help="Most uses of tools in one question to a language model.",
            show_default="4; of local: models 0",
            envvar="HEADSCRIBE_TOOL_CALLS",
        ),
    ] = None
    llm_mode: Annotated[
        str,
        typer.Option(
            "--llm-mode",
            help="auto (probe), tools, json_schema, json_object or text.",
            envvar="HEADSCRIBE_LLM_MODE",
        ),
    ] = "auto"
    llm_timeout: Annotated[
        float,
        typer.Option("--llm-timeout", min=1.0, help="Seconds to wait for one reply.", envvar="HEADSCRIBE_LLM_TIMEOUT"),
    ] = TIMEOUT
    no_reply_cache: Annotated[
        bool, typer.Option("--no-reply-cache", help="Ask a language model anew, whatever was answered before.")
    ] = False

    def given(self, *, device: str, workers: int = 8, no_cache: bool = False) -> ModelOptions:
        """What `agent.llm` takes; `device` is that of a model in process. Raises UserMistake."""
        return checked(
            ModelOptions(
                mode=cast(Mode, self.llm_mode),
                device=device.split(",")[0],
                max_tokens=self.max_tokens,
                tool_calls=self.tool_calls,
                timeout=self.llm_timeout,
                in_flight=workers,
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                token_budget=self.token_budget,
                money_budget=self.budget,
                price=parse_price(self.price),
                use_cache=cache_wanted(self.no_reply_cache or no_cache),
            )
        )
