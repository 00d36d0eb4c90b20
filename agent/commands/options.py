"""Options that several commands share, written once so that they mean and say the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.commands.command_line import DEVICES, SOURCES, models, words

Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="Built-in alias, hub id, local folder or GGUF file.",
        envvar="HEADSCRIBE_MODEL",
        autocompletion=models,
    ),
]
Revision = Annotated[str | None, typer.Option("--revision", help="Revision of a hub id.", envvar="HEADSCRIBE_REVISION")]
Source = Annotated[
    str,
    typer.Option(
        "--source",
        help="auto, first-mlp, embedding or first-block.",
        envvar="HEADSCRIBE_SOURCE",
        autocompletion=words(SOURCES),
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda or mps.", envvar="HEADSCRIBE_DEVICE", autocompletion=words(DEVICES)),
]
MOST_TOKENS = 5000  # salient tokens: beyond that nothing is read any more, and a list takes minutes
MOST_TARGETS = 1000
Top = Annotated[int, typer.Option("--top", min=1, max=MOST_TOKENS, help="How many salient tokens.")]
Targets = Annotated[int, typer.Option("--targets", min=1, max=MOST_TARGETS, help="How many targets of each.")]
NormalTokensOnly = Annotated[
    bool, typer.Option("--normal-tokens-only", help="Leave special, byte and unused tokens out.")
]
FoldNorms = Annotated[bool, typer.Option("--fold-norms", help="Fold norm gains into the map.")]
FoldBiases = Annotated[bool, typer.Option("--fold-biases", help="Fold biases (and norms) into the map.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

InFlight = Annotated[
    int,
    typer.Option("--workers", min=1, help="Requests to a language model in flight.", envvar="HEADSCRIBE_WORKERS"),
]
PriceText = Annotated[
    str | None,
    typer.Option(
        "--price",
        help="Of a million tokens read and written, such as 2.5,10: shows the cost.",
        envvar="HEADSCRIBE_PRICE",
    ),
]
RequestsPerMinute = Annotated[
    int | None,
    typer.Option(
        "--requests-per-minute", help="At most, to a language model.", envvar="HEADSCRIBE_REQUESTS_PER_MINUTE"
    ),
]
TokensPerMinute = Annotated[
    int | None,
    typer.Option("--tokens-per-minute", help="At most, read and written.", envvar="HEADSCRIBE_TOKENS_PER_MINUTE"),
]
TokenBudget = Annotated[
    int | None,
    typer.Option("--token-budget", help="Stop before a run takes more tokens.", envvar="HEADSCRIBE_TOKEN_BUDGET"),
]
MoneyBudget = Annotated[
    float | None,
    typer.Option("--budget", help="Stop before a run costs more, by --price.", envvar="HEADSCRIBE_BUDGET"),
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", help="Of one reply of a language model.", envvar="HEADSCRIBE_MAX_TOKENS")
]
NoReplyCache = Annotated[
    bool, typer.Option("--no-reply-cache", help="Ask a language model anew, whatever was answered before.")
]
MaxRevisions = Annotated[
    int,
    typer.Option(
        "--max-revisions",
        min=0,
        max=5,
        help="How often a language model may revise a description after its trial.",
        envvar="HEADSCRIBE_MAX_REVISIONS",
    ),
]
LlmTimeout = Annotated[
    float,
    typer.Option("--llm-timeout", min=1.0, help="Seconds to wait for one reply.", envvar="HEADSCRIBE_LLM_TIMEOUT"),
]
LlmMode = Annotated[
    str,
    typer.Option(
        "--llm-mode",
        help="auto (probe), tools, json_schema, json_object or text.",
        envvar="HEADSCRIBE_LLM_MODE",
    ),
]
