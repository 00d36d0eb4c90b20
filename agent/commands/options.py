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
