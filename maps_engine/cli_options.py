"""Options that several commands share, written once so that they mean and say the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option("--model", help="Built-in alias, hub id, local folder or GGUF file.", envvar="HEADSCRIBE_MODEL"),
]
Revision = Annotated[str | None, typer.Option("--revision", help="Revision of a hub id.", envvar="HEADSCRIBE_REVISION")]
Source = Annotated[
    str,
    typer.Option("--source", help="auto, first-mlp, embedding or first-block.", envvar="HEADSCRIBE_SOURCE"),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.", envvar="HEADSCRIBE_DEVICE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
