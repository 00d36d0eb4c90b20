"""The option that names who describes heads, for the commands that describe any."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.describers import BEGINNINGS, NAMES
from maps_engine.command_line import words

Describer = Annotated[
    str,
    typer.Option("--describer", help=f"{NAMES}.", envvar="HEADSCRIBE_DESCRIBER", autocompletion=words(BEGINNINGS)),
]
